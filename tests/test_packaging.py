"""The package as users get it: installed from a wheel or in place, complete, importable from anywhere."""

import hashlib
import importlib
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> list[Path]:
    """The files of the project, new ones included, ignored ones not."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that no build folder is left behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked():
        if name.parts[0] != "tests":
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        folder / "source",
        cwd=folder,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_packages_are_the_folders_with_an_init() -> None:
    found = {p.parent.as_posix() for p in tracked() if p.name == "__init__.py" and p.parts[0] != "tests"}
    assert set(SETUPTOOLS["package-dir"].values()) == found
    assert set(SETUPTOOLS["packages"]) == set(SETUPTOOLS["package-dir"])


def test_a_package_is_named_for_its_folder() -> None:
    for package, folder in SETUPTOOLS["package-dir"].items():
        inner = package.removeprefix("riverrun").removeprefix(".").replace(".", "/")
        assert folder in ("sdk", inner, f"sdk/{inner}")


def test_the_wheel_holds_every_source_and_asset(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    roots = sorted(SETUPTOOLS["package-dir"].items(), key=lambda item: len(item[1]), reverse=True)
    for path in tracked():
        for package, folder in roots:
            if path.is_relative_to(folder):
                assert f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}" in held
                break
    assert not [name for name in held if name.startswith("tests/")]


def test_the_wheel_works_from_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    """A new environment sees the libraries of this one, but not the copy of the project installed in it."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=tmp_path,
    )
    (site,) = (home / "lib").glob("python*/site-packages")
    libraries = [p for p in sys.path if p.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries))
    code = "import riverrun, riverrun.media, importlib.resources as r; print(riverrun.__file__); "
    code += "print((r.files('riverrun.assets') / 'README.md').is_file())"
    where, assets = run(python, "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(home)
    assert assets == str((ROOT / "assets" / "README.md").is_file())
    assert "restore" in run(home / "bin" / "riverrun", "--help", cwd=tmp_path)


def test_the_editable_install_is_found_from_anywhere() -> None:
    where = run(sys.executable, "-c", "import riverrun.media; print(riverrun.__file__)", cwd=Path("/"))
    assert Path(where.strip()).resolve() == ROOT / "sdk" / "__init__.py"


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_public_names_are_real(package: str) -> None:
    module = importlib.import_module(package)
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))
    assert not [name for name in names if not hasattr(module, name)]


def test_checksums_of_the_assets_hold() -> None:
    """Weights and samples that differ from the list would be damaged, or not those the model cards speak of."""
    lines = (ROOT / "assets" / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    here = [f for f in sorted((ROOT / "assets").iterdir()) if f.suffix in (".safetensors", ".flac", ".wav")]
    assert listed == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in here}
