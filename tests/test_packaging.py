"""What a release is made of: metadata that agree, wheels for each Python, headers, extras. Builds are in .ci/wheel."""

import re
import tomllib

import pytest

import fisherfield
from repository import needed

ROOT = needed("pyproject.toml", "python/fisherfield", "CITATION.cff")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


# --- metadata -------------------------------------------------------------------------------------------


def test_citation():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors", "version", "license"}
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == PROJECT["project"]["authors"]
    assert citation["license"] == PROJECT["project"]["license"]
    for reference in citation["references"]:
        assert reference.keys() >= {"type", "title", "authors", "year"}
        assert all(author.keys() == {"family-names", "given-names"} for author in reference["authors"])


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert re.findall(r"^version: (.*)$", text_of("CITATION.cff"), re.M) == [version]
    assert fisherfield.show_config(as_dict=True)["versions"]["fisherfield"] == version
    assert re.findall(r"^## (\S+)", text_of("CHANGELOG.md"), re.M)[0] == version


def test_every_paper_of_the_readme_is_cited():
    papers = set(re.findall(r"arxiv\.org/abs/([\d.]+\d)", text_of("README.md")))
    assert len(papers) >= 4
    assert papers <= set(re.findall(r"arxiv\.org/abs/([\d.]+\d)", text_of("CITATION.cff")))


# --- wheels ---------------------------------------------------------------------------------------------


def test_pythons_of_the_wheels():
    settings = PROJECT["tool"]["cibuildwheel"]
    assert settings["build"] == [f"cp{version.replace('.', '')}-*" for version in PYTHONS]
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    assert re.findall(r":: Python :: (3\.\d+)", classifiers) == PYTHONS


def test_the_tests_of_the_wheels_exist():
    tested = re.findall(r"tests/test_\w+\.py", " ".join(PROJECT["tool"]["cibuildwheel"]["test-command"]))
    assert len(tested) >= 3
    assert all((ROOT / path).is_file() for path in tested)


INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<(fisherfield/[^>]+)>)', re.M)


def sources_of(path):
    """A source and every file of ours that it includes, directly or not."""
    found = {path}
    for quoted, bracketed in INCLUDE.findall(text_of(path)):
        folders = [path.parent] if quoted else []
        folders += [ROOT / "cuda" / "include", ROOT / "cpp" / "include"]
        candidates = [folder / (quoted or bracketed) for folder in folders]
        found |= sources_of(next(candidate for candidate in candidates if candidate.is_file()))
    return found


def test_nvrtc_finds_every_header_that_the_kernels_include():
    """In the layout that CMake installs: headers of CUDA in one folder, those of the processor in a folder of it."""
    cmake = text_of("CMakeLists.txt")
    assert re.search(r"GLOB cuda_headers CONFIGURE_DEPENDS cuda/include/\*\.cuh\)", cmake)
    assert "install(FILES cuda/src/kernels.cu ${cuda_headers} DESTINATION ${cuda_folder})" in cmake
    assert "install(FILES ${shared_headers} DESTINATION ${cuda_folder}/fisherfield)" in cmake
    shared = re.search(r"set\(shared_headers ([^)]*)\)", cmake)[1].split()
    installed = {ROOT / "cuda" / "src" / "kernels.cu", *(ROOT / "cuda" / "include").glob("*.cuh")}
    installed |= {ROOT / path for path in shared}
    included = sources_of(ROOT / "cuda" / "src" / "kernels.cu")
    assert {path.name for path in included} >= {"gram.cuh", "jets.hpp", "math.hpp"}
    assert included == installed


# --- extras and tools -----------------------------------------------------------------------------------


def test_extras_that_the_package_names_exist():
    named = {
        (name, path.name)
        for path in sorted((ROOT / "python").rglob("*.py"))
        for group in re.findall(r"fisherfield\[([\w,-]+)\]", path.read_text(encoding="utf-8"))
        for name in group.split(",")
    }
    assert {name for name, _ in named} >= {"plot", "progress", "data", "cuda13"}
    assert not [(name, file) for name, file in named if name not in EXTRAS]


def test_extras_that_documents_name_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("CONTRIBUTING.md")]
    groups = re.findall(r"(?:fisherfield|\s\"?'?\.)\[([\w,]+)\]", "\n".join(map(text_of, pages)))
    assert len(groups) >= 3
    assert {name for group in groups for name in group.split(",")} <= EXTRAS.keys()


def test_extras_of_extras_exist():
    requirements = [*PROJECT["project"]["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    groups = re.findall(r"fisherfield\[([\w,]+)\]", "\n".join(requirements))
    assert {name for group in groups for name in group.split(",")} <= EXTRAS.keys()


def test_hooks_have_the_versions_of_the_checks():
    needed(".pre-commit-config.yaml")
    pinned = set(re.findall(r"[\w-]+==[\d.]+", text_of(".pre-commit-config.yaml")))
    assert pinned == {requirement for requirement in EXTRAS["lint"] if "==" in requirement}
