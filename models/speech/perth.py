"""Where the weights of the mark are: the pretrained implicit Perth net, in the package resemble-perth (MIT).

Only its file is read, as its own code brings more along than the net needs.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from riverrun.models.errors import CheckpointError

PACKAGE = "resemble-perth"
FILE = "perth/perth_net/pretrained/implicit/perth_net_250000.pth.tar"


def weights() -> Path:
    """The file of weights. Raises CheckpointError, which tells what to install, if it is not here."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(FILE)))
    except PackageNotFoundError as error:
        raise CheckpointError(f"{PACKAGE} is not installed: pip install 'riverrun[mark]'") from error
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: install {PACKAGE} 1.0 again")
    return path
