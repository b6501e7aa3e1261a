"""python -m riverrun.cli"""

from riverrun.cli import main

if __name__ == "__main__":
    main()
