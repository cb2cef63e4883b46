# make        sets up, then the main job on real data: import, train, evaluate, check, simulate, report;
#             and a small discovery campaign in the world that comes with the package
# make test   sets up, then every test
# make quick  the tests that take no time, for after each change
# make lowest the same with the oldest versions of all packages that pyproject.toml allows, in .venv-lowest
# make dist   wheel and source archive, the same to the last byte each time, in build/dist
# make docs   the documentation, in build/docs, which opens without a server or a network
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/ethanol
CHEAP := runs/ethanol_cheap
TRUE := datasets/ethanol_xtb/ethanol_nve.h5md
# Molecules are small: a second thread would spend more time waiting than computing.
export OMP_NUM_THREADS ?= 1

all: $(RUN)/report.html runs/polar/report.html
	@echo
	@echo "The pages with pictures: $(CURDIR)/$(RUN)/report.html"
	@echo "                         $(CURDIR)/runs/polar/report.html"

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(RUN)/train.h5md: datasets/ethanol_xtb/ethanol_400K.extxyz | .venv/.done
	mkdir -p $(RUN)
	$(BIN)/sciwm import $< --to $@ --overwrite true

# An interrupted training is continued; a finished one that is out of date starts anew.
$(RUN)/model.pt: configs/ethanol.yaml $(RUN)/train.h5md | .venv/.done
	test ! -f $@ || rm -rf $@ $(RUN)/checkpoints $(RUN)/log
	$(BIN)/sciwm train configs/ethanol.yaml

# The checks go first, because their verdict is stored in the model file.
$(RUN)/check.json: $(RUN)/model.pt
	-$(BIN)/sciwm check $(RUN) --data $(TRUE)

$(RUN)/evaluation/metrics.json: $(RUN)/check.json $(TRUE)
	$(BIN)/sciwm evaluate $(RUN) --data $(TRUE)

$(RUN)/imagined.h5md: $(RUN)/check.json $(TRUE)
	rm -f $@ $@.checkpoint.npz
	$(BIN)/sciwm simulate $(RUN) $(TRUE) 1ps --frames 0 --dt 0.5fs --every 2 --out $@

$(CHEAP)/model.pt: configs/ethanol_cheap.yaml $(RUN)/train.h5md | .venv/.done
	test ! -f $@ || rm -rf $@ $(CHEAP)/checkpoints $(CHEAP)/log
	$(BIN)/sciwm train configs/ethanol_cheap.yaml

# The same motion by strides six times as long as those above.
$(RUN)/strides.h5md: $(RUN)/check.json $(CHEAP)/model.pt $(TRUE)
	rm -f $@ $@.checkpoint.npz
	$(BIN)/sciwm simulate $(RUN) $(TRUE) 999fs --frames 0 --dt 3fs --every 1 --cheap $(CHEAP) --cheap_steps 6 --out $@

$(RUN)/report.html: $(RUN)/evaluation/metrics.json $(RUN)/imagined.h5md $(RUN)/strides.h5md
	$(BIN)/sciwm report $(RUN) --true $(TRUE) --imagined $(RUN)/imagined.h5md --strides $(RUN)/strides.h5md

# An interrupted campaign is continued; one whose job has changed starts anew.
runs/polar/report.html: configs/polar.yaml | .venv/.done
	if test -f $@ || test $(@D)/ledger.sqlite -ot $<; then rm -rf $(@D); fi
	-$(BIN)/sciwm compile organic
	$(BIN)/sciwm discover $<

# One more worker than cores: many tests wait for processes that they start or kill.
WORKERS ?= 3

test: .venv/.done
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

quick: .venv/.done
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -q -m "not crash and not database and not browser and not long"

# Times in archives are those of the last commit.
dist: export SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)
dist: .venv/.done
	rm -rf build/dist build/lib build/bdist.*
	$(BIN)/python -m build --no-isolation --outdir build/dist .
	cd build/dist && tar -xzf sciwm-*.tar.gz && rm sciwm-*.tar.gz && for folder in sciwm-*/; do \
		tar --sort=name --mtime=@$$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r,go-w \
			-c $${folder%/} | gzip -n9 > $${folder%/}.tar.gz && rm -r $$folder; done
	cd build/dist && sha256sum *

docs: .venv/.docs
	$(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/build/docs/index.html"

.venv/.docs: .venv/.done
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

lowest: .venv-lowest/.done
	.venv-lowest/bin/pytest -q -n $(WORKERS) --dist worksteal -m "not long"

.venv-lowest/.done: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt torch
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable '.[dev]'
	touch $@

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf runs build *.egg-info

.DELETE_ON_ERROR:
.PHONY: all setup test quick lowest dist docs lint clean
