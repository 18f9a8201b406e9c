# make demo   set up everything and run a pipeline on a text file of this machine
# make test   set up everything and run the tests
#
# PYTHON=...  the interpreter to use; the default is the newest one that can build m3
# VENV=...    the environment to make or use; the default is .venv
# ARGS=...    further arguments for pytest, or for m3 in the demo
# INPUT=...   the text file that the demo reads, or a folder of Python sources; the default is
#             the standard library of the interpreter

VENV ?= .venv
BIN = $(VENV)/bin
BUILT_FROM = pyproject.toml setup.py $(wildcard m3/*.pyx m3/*.pxd m3/*.h)

# An interpreter can build m3 if it is new enough and has venv, pip and Python.h.
USABLE = import ensurepip, os, sys, sysconfig, venv; \
	header = os.path.join(sysconfig.get_path("include"), "Python.h"); \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c '$(USABLE)' 2>/dev/null; then echo $$python; break; fi; done)

# Text that is on every machine with Python: about a million lines.
DEFAULT_INPUT = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

# Releases to hold back for an interpreter, as constraints/cp<version><flags>.txt.
ABI = $(shell $(BIN)/python -c 'import sys; print("cp%d%d%s" % (*sys.version_info[:2], sys.abiflags))')
CONSTRAINTS = $(addprefix --constraint ,$(wildcard constraints/$(ABI).txt))

.PHONY: demo test install clean

demo: $(VENV)/installed
	@mkdir -p build
	@echo "Counting the words in $(or $(INPUT),$(DEFAULT_INPUT)) ..."
	$(BIN)/m3 run --progress --app-dir examples \
		--frontend word_count:Lines --set frontend.path="$(or $(INPUT),$(DEFAULT_INPUT))" \
		--transport word_count:words --workers 2 \
		--backend word_count:Count --set backend.output=build/words.txt $(ARGS)
	@head build/words.txt

test: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest $(ARGS)

install: $(VENV)/installed-for-tests

$(VENV)/installed: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install -qq $(CONSTRAINTS) --editable '.[all]'
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/python -m pip install -qq $(CONSTRAINTS) --group test $(if $(findstring t,$(ABI)),,--group moto --group speedups)
	@touch $@

# pip learnt --group in 25.1.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "m3 needs Python 3.11 or newer with its venv module and headers\
	 (on Debian: apt install python3-venv python3-dev); name one with make PYTHON=..." >&2; exit 1; }
	@command -v cc gcc clang >/dev/null || { echo "m3 needs a C compiler\
	 (on Debian: apt install gcc)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade 'pip>=25.1'

clean:
	rm -rf build dist .venv* .tox *.egg-info docs/_build m3/*.so .ci/results
