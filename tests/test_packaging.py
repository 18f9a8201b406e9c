"""What is built and installed is what users need, and the README's commands set it up."""

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

GENERATED = (".git", ".*cache", ".tox", ".venv*", "build", "dist", "*.so", "*.c", "*.egg-info")

NEEDED_TO_BUILD = {
    "pyproject.toml",
    "setup.py",
    "Makefile",
    "m3/_queue.pyx",
    "m3/_queue.pxd",
    "m3/_queue.pyi",
    "m3/_sync.h",
    "m3/py.typed",
    "tests/conftest.py",
    "examples/word_count.py",
    "docs/conf.py",
    "constraints/cp313t.txt",
}

HELLO = """
from m3.services import rpc


class Hello:
    name = "hello"

    @rpc
    def greet(self, name):
        return f"hello, {name}"


def test_hello(container_factory, m3_rpc):
    container_factory(Hello).start()
    assert m3_rpc.hello.greet("you") == "hello, you"
"""


def checked(*command, **options) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(path: Path) -> Path:
    """Make a virtual environment with the pip that Python brings; return its scripts' folder."""
    checked(sys.executable, "-m", "venv", path)
    return path / "bin"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """A source distribution, built from a copy of this checkout."""
    copy = tmp_path_factory.mktemp("checkout") / "m3"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*GENERATED))
    checked(sys.executable, "-m", "build", "--sdist", "--outdir", copy / "dist", copy)
    (archive,) = (copy / "dist").glob("m3_pipeline-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    """The folder that the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (inner,) = folder.iterdir()
    return inner


@pytest.mark.packaging
def test_sdist_has_what_a_build_needs(unpacked):
    """The source distribution builds, tests and documents m3, without generated files."""
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert files >= NEEDED_TO_BUILD
    assert [name for name in files if name.endswith((".c", ".so", ".pyc"))] == []


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_sdist_installs_in_a_clean_environment(sdist, tmp_path):
    """The command, the library and its plugin of pytest work outside of any checkout."""
    scripts = environment(tmp_path / "env")
    checked(scripts / "pip", "install", "--quiet", sdist, cwd=tmp_path)
    lines = checked(scripts / "m3", "run", "--frontend", "stdin", input="a\nb\n", cwd=tmp_path)
    assert lines == "a\nb\n"
    program = "import m3; print(m3.Pipeline([1, 2]).backend(lambda item: None).run().delivered)"
    assert checked(scripts / "python", "-I", "-c", program, cwd=tmp_path) == "2\n"
    checked(scripts / "pip", "install", "--quiet", "pytest", cwd=tmp_path)
    (tmp_path / "test_hello.py").write_text(HELLO)
    done = checked(scripts / "python", "-I", "-m", "pytest", "-W", "error", cwd=tmp_path)
    assert "1 passed" in done


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_wheel_has_no_sources_of_the_compiled_modules(unpacked, tmp_path):
    """A wheel carries compiled modules, their stubs and the mark of a typed package."""
    checked(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, unpacked)
    (wheel,) = tmp_path.glob("m3_pipeline-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    suffixes = {Path(name).suffix for name in names if name.startswith("m3/")}
    assert suffixes == {".py", ".pyi", ".so", ".typed"}
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"m3"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.packaging
@pytest.mark.timeout(900)
def test_readme_commands_work_on_a_clean_copy(unpacked):
    """``make demo`` and ``make test`` set up everything themselves, and only once."""
    # What a make that runs these tests was told is in its environment, and not for this one.
    told = {"MFLAGS", "ARGS", "INPUT", "PYTHON", "VENV"}
    plain = {
        key: value
        for key, value in os.environ.items()
        if key not in told and not key.startswith(("PYTEST", "MAKE"))
    }
    make = ["make", f"PYTHON={sys.executable}"]
    demo = checked(*make, "demo", cwd=unpacked, env=plain, stderr=None)
    assert "pip install" in demo
    tests = [*make, "test", "ARGS=tests/test_layers.py"]
    assert "passed" in checked(*tests, cwd=unpacked, env=plain)
    assert "pip install" not in checked(*tests, cwd=unpacked, env=plain)


@pytest.fixture
def chosen_python(tmp_path):
    """Return a function: which of the interpreters on PATH, given as name=works, make chooses."""

    def choose(**works):
        for name, is_usable in works.items():
            script = tmp_path / name.replace("_", ".")
            command = f'exec {sys.executable} "$@"' if is_usable else "exit 127"
            script.write_text(f"#!/bin/sh\n{command}\n")
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        (tmp_path / "sh").symlink_to("/bin/sh")
        make = shutil.which("make")
        assert make is not None
        show = [make, "--no-print-directory", "--eval", "show: ; $(info $(PYTHON))", "show"]
        clean = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
        return checked(*show, cwd=ROOT, env=clean).splitlines()[0]

    return choose


@pytest.mark.skipif(not shutil.which("make"), reason="make chooses")
@pytest.mark.parametrize(
    ("works", "chosen"),
    [
        ({"python3": True}, "python3"),
        ({"python3_12": True}, "python3.12"),
        ({"python3": True, "python3_12": True, "python3_13": True}, "python3.13"),
        ({"python3_13": False, "python3_11": True, "python3": False}, "python3.11"),
        ({"python3": False}, ""),
    ],
    ids=["python3 alone", "no python3", "newest", "a shim for what is not installed", "none"],
)
def test_make_chooses_the_newest_interpreter_that_works(chosen_python, works, chosen):
    """Make takes the newest interpreter that runs, has headers, venv and pip."""
    assert chosen_python(**works) == chosen
