# make        sets up, then the main job on real data: import, train, evaluate, check, simulate, report
# make test   sets up, then every test
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/ethanol
export OMP_NUM_THREADS ?= 2

all: $(RUN)/report.html
	@echo
	@echo "The page with pictures: $(CURDIR)/$(RUN)/report.html"

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

test: .venv/.done
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf runs build *.egg-info

.PHONY: all setup test lint clean
