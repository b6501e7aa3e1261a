"""What is asked of a model that shows: pictures of a prompt, which may change while they are made."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """What is to be seen, and for how long.

    The first request of a session is prompt 0; each further one that has a prompt is the next, and counts from the
    first chunk on whose making has not begun; of several that wait the last one counts. Which tick that is, the model's
    port of times tells for every prompt. An update without a prompt changes only when the pictures end.
    Units: `seconds` of pictures in all, from the first one on; 0: until an update says `end`. `steps` evaluations a
    chunk, 0: the model's own. `picture` is the first one, as models/picture.py has it; only the first request has one.
    `mode` is how pictures go on from those before them, one of those of the model's Spec; "": its first.
    """

    prompt: str = ""
    seconds: float = 0.0
    end: bool = False
    seed: int = 0
    steps: int = 0
    picture: str = ""
    mode: str = ""
