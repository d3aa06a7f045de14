# One line a target; the same commands as CI. `make help` lists them.
PYTHON ?= python3
SLOW ?= tests
LOCK ?= $(if $(UV_FIND_LINKS),requirements/lock-cpu.txt,requirements/lock.txt)
BIN = .venv/bin
export OMP_NUM_THREADS ?= 2
export RAY_USAGE_STATS_ENABLED = 0

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 18

.venv/.ready: $(LOCK) pyproject.toml infra/setup
	@PYTHON=$(PYTHON) sh infra/setup $(LOCK)

setup: .venv/.ready ## install everything into .venv

demo: setup ## the main job: cohort, three models, evaluation, report.html (20 to 40 minutes)
	@$(BIN)/rollama demo

test: setup ## the fast tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest

test-slow: setup ## real Ray, several processes, killed workers, the endpoint
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "slow and not matrix" $(SLOW) --timeout 900

test-soak: setup ## five minutes of good and bad requests, with a killed server in between
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m soak tests/serve --timeout 1200

test-load: setup ## replicas that follow the load, on this machine (minutes; CI leaves it out)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "slow and matrix" --timeout 900

test-realdata: setup ## real chest CTs, fetched by package name on first use
	@$(BIN)/uv run -q --no-project --with pip==25.3 python tests/realdata/fetch.py && $(BIN)/pytest -m realdata tests/realdata --timeout 900

dicom-install: ## Debian packages that read DICOM independently of us (as root)
	@sh infra/dicom/install

test-dicom: setup ## the DICOM export as dcmtk and dicom3tools see it
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m dicom tests/dicom --timeout 600

page: ## fetch the viewer of the endpoint's page (node); without it the page shows plain pictures
	@sh infra/page

page-install: ## Debian packages for the page's tests: Chromium, node (as root)
	@sh infra/page-install

test-page: setup page ## the endpoint's page in a real browser
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m page tests/page --timeout 300

cluster-install: ## Debian packages for the test cluster and the image build (as root)
	@sh infra/cluster/install

cluster-build: setup ## the programs of the test cluster that are not in the cache yet (Go; first time 15 minutes)
	@$(BIN)/python -m infra.cluster build

cluster-up: setup ## a real single-node Kubernetes with KubeRay and S3, for the tests (root, Go; first time 15 minutes)
	@$(BIN)/python -m infra.cluster up

cluster-down: setup ## remove the test cluster, whatever state it is in
	@$(BIN)/python -m infra.cluster down

cluster-status: setup ## what of the test cluster runs
	@$(BIN)/python -m infra.cluster status

image: setup ## build the image without a container engine (root, buildah)
	@$(BIN)/python -m infra.image

test-chart: setup ## the Helm chart as helm renders it: safe, reachable as meant, every security line held by a test
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m chart tests/chart

chart: setup ## write the chart's schema and README anew, from the code and values.yaml
	@$(BIN)/python -m infra.chart

test-cluster: setup ## the marked tests on a real cluster (make cluster-up, or ROLLAMA_KUBECONFIG)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "cluster and not matrix" tests/live --durations 0 --timeout 900

test-faults: setup ## every fault on a real cluster, also those that test-cluster leaves out
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m cluster tests/live/test_faults.py tests/live/release --durations 0 --timeout 900

test-federation-cluster: setup ## a federation's coordinator and two sites as releases on a real cluster (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m cluster tests/live/test_federation.py --durations 0 --timeout 2400

federation-install: setup ## Flower's environment, outside the checkout
	@sh infra/federation/install

test-federation: federation-install ## coordinator and sites as processes, with TLS and keys
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "federation and not matrix" tests/centres --timeout 600

test-federation-faults: federation-install ## rogue sites, a killed coordinator, a capture of what leaves
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m "federation and matrix" tests/centres --timeout 900

check: setup ## style, lint, types, import layers
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

format: setup ## apply the style
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: ## resolve the versions anew (cuda lock; the cpu lock where UV_FIND_LINKS offers a CPU build of torch)
	@sh infra/lock

clean: ## remove what builds left in the checkout, not runs/
	@rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache

.PHONY: help setup demo test test-slow test-soak test-load test-realdata test-dicom dicom-install page page-install test-page image test-chart chart test-cluster test-faults test-federation-cluster federation-install test-federation test-federation-faults cluster-install cluster-build cluster-up cluster-down cluster-status check format lock clean
