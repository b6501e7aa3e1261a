"""Words that are written short, and how they are said."""

TITLES = {
    **{"Mr": "mister", "Mrs": "missus", "Ms": "miz", "Mx": "mix", "Messrs": "messers", "Dr": "doctor"},
    **{"Prof": "professor", "Rev": "reverend", "Gen": "general", "Sgt": "sergeant", "Capt": "captain"},
    **{"Cpt": "captain", "Lt": "lieutenant", "Col": "colonel", "Maj": "major", "Cmdr": "commander"},
    **{"Adm": "admiral", "Gov": "governor", "Sen": "senator", "Rep": "representative", "Pres": "president"},
    **{"Hon": "honorable", "Fr": "father", "St": "saint", "Mt": "mount", "Ft": "fort", "Cpl": "corporal"},
}
"""Before a name; the first six are said so without a stop, too."""
BARE = frozenset(["Mr", "Mrs", "Ms", "Mx", "Messrs", "Dr"])
AFTER = {
    **{"St": "street", "Dr": "drive", "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "Ln": "lane"},
    **{
        "Hwy": "highway",
        "Sq": "square",
        "Jr": "junior",
        "Sr": "senior",
        "Inc": "incorporated",
        "Ltd": "limited",
    },
    **{
        "Co": "company",
        "Corp": "corporation",
        "Bros": "brothers",
        "Pl": "place",
        "Ct": "court",
        "Esq": "esquire",
    },
}
"""After a name, with a stop."""
SHORT = {
    **{
        "etc": "et cetera",
        "vs": "versus",
        "approx": "approximately",
        "dept": "department",
        "govt": "government",
    },
    **{
        "est": "established",
        "cf": "compare",
        "ca": "circa",
        "al": "al",
        "incl": "including",
        "excl": "excluding",
    },
    **{"misc": "miscellaneous", "min": "minutes", "mins": "minutes", "sec": "seconds", "secs": "seconds"},
    **{
        "hr": "hour",
        "hrs": "hours",
        "max": "maximum",
        "avg": "average",
        "tel": "telephone",
        "ext": "extension",
    },
    **{
        "assn": "association",
        "intl": "international",
        "univ": "university",
        "apt": "apartment",
        "ed": "edition",
    },
    **{"ave": "avenue", "blvd": "boulevard", "fwd": "forward", "temp": "temperature", "esp": "especially"},
    **{"inc": "incorporated", "ltd": "limited", "corp": "corporation", "viz": "namely", "dist": "district"},
}
"""Anywhere, with a stop, whatever the case; those of STOPLESS without one, too."""
STOPLESS = frozenset(["etc", "vs", "approx"])
COUNTED = {
    **{"no": "number", "nos": "numbers", "p": "page", "pp": "pages", "vol": "volume", "vols": "volumes"},
    **{
        "fig": "figure",
        "figs": "figures",
        "ch": "chapter",
        "sec": "section",
        "art": "article",
        "par": "paragraph",
    },
    **{
        "ex": "example",
        "eq": "equation",
        "rm": "room",
        "v": "verse",
        "c": "circa",
        "ver": "version",
        "op": "opus",
    },
}
"""Before a number, with a stop."""
DOTTED = {"e.g": "for example", "i.e": "that is", "a.k.a": "also known as", "w.r.t": "with respect to"}
MONTHS = (
    "January February March April May June July August September October November December"
).split()  # fmt: skip
MONTH = {
    **{name.lower(): index for index, name in enumerate(MONTHS, 1)},
    **{name[:3].lower(): index for index, name in enumerate(MONTHS, 1)},
    "sept": 9,
}
DAYS = {
    **{"Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday"},
    **{"Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday"},
}
"""With a stop; Sat. and Sun. are words, too."""
STARTERS = frozenset(
    "the he she it they we i you in on at but and so this that these those there then when what who why how if as "
    "for with after before his her its our my their a an no yes not all some one many most also however although "
    "while because since until once now here where".split()
)
"""Words that begin a sentence where they have a capital after an abbreviation's stop."""
SPELT = frozenset(
    "UCLA IEEE OECD UNHCR IUPAC ESPN MSNBC ACLU EULA IMHO IMO AAPL AARP NAACP IBAN ISBN ISSN IEC "
    "AIPAC USAF AFAIK ICAO".split()
)
"""Initialisms of four letters and more that could be taken for words."""
SAID = frozenset(
    "NASA NATO AIDS OPEC RAM ROM SIM PIN LAN WAN GIF JPEG COVID SWAT LASER RADAR SONAR SCUBA UNESCO UNICEF FIFA NAFTA "
    "ASCII BIOS RAID WASP NIMBY POTUS SCOTUS FLOTUS HIPAA ASEAN BRICS DARPA NOAA OSHA SARS MERS CAPTCHA TOEFL "
    "WIFI YAML ZIP COBOL SAAS GUI MIDI PAC NORAD SEAL DOS CAD CAM".split()
)
"""Initialisms that are said as words."""
COMMON = frozenset(
    "the and you for are but not all any can had her was one our out day get has him his how man new now old see two "
    "way who boy did its let put say she too use dad mom mum cat dog run big red sun top yes hot off own try why ask "
    "end far few got job lot may men met pay per saw set sit six ten war win ago act add age air art bad bar bed bit "
    "box bus buy car cut die dry due eat eye fit fly fun god guy hit ice key kid law lay led leg lie low map mix net "
    "oil pop raw row sad sea sir sky tax tea tie tip toy van wet won yet bye hey huh wow ooh aha shh of to in is on "
    "at as be by he we an or so up if no my do go ha oh ah um hi me am it us".split()
)
"""Short words that are words in capitals, too."""
AMBIGUOUS = frozenset(["IT", "US", "AM", "OR", "AN", "ME"])
"""Of them, those that are spelt unless the words beside them are in capitals."""
COUNTING = frozenset(
    "chapter part section book volume act scene phase type class war appendix article figure title bowl episode level "
    "stage grade schedule table rocky canto sonata symphony mark tier unit world apollo".split()
)
"""Words a Roman numeral after which is a number."""
RULERS = frozenset(
    "henry louis george elizabeth charles edward william james richard mary paul benedict pius leo gregory napoleon "
    "nicholas frederick philip ferdinand alexander catherine peter ivan ramses innocent clement urban victor otto karl "
    "gustav christian haakon harald olav john robert david francis xerxes darius ptolemy theodosius constantine "
    "alfonso juan carlos pedro leopold wilhelm friedrich umberto emmanuel boniface urban sixtus julius adrian".split()
)
"""Names a Roman numeral after which is an ordinal."""
