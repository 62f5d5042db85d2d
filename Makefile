# make demo, make test: everything a newcomer needs; each sets up its own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test check docs bench soak lock clean

$(BIN)/kubewitness: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(BIN)/kubewitness
	@mkdir -p demo
	$(BIN)/kubewitness analyze examples/ --cluster demo --since 30m --report demo/report.html
	@echo "report: demo/report.html"

check: $(BIN)/kubewitness
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n auto --dist loadfile

docs: $(BIN)/kubewitness
	$(BIN)/python bench/walk.py
	$(BIN)/python bench/picture.py
	$(BIN)/python bench/payloads.py

bench: $(BIN)/kubewitness
	$(BIN)/python bench/throughput.py

soak: $(BIN)/kubewitness
	$(BIN)/python bench/live.py --seconds 3600 --history 30 --attacks 40 --every 300

lock: pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --no-header --allow-unsafe --strip-extras --no-annotate --output-file requirements.lock requirements.in

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
