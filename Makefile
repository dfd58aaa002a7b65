SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
NODE := node_modules/.bin/node
# What Node has compiled is kept by its content, outside the checkout: each of some hundred test processes reads the same sources.
ifndef NODE_COMPILE_CACHE
export NODE_COMPILE_CACHE := $(shell dir=$${XDG_CACHE_HOME:-$$HOME/.cache}/nightshift/compiled; mkdir -p "$$dir" 2>/dev/null && echo "$$dir")
endif

.PHONY: help install demo test check lint format unit fuzz simulate mutants exhaustive scenarios sdks cluster-test kubernetes bench build docs crds clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The lock file's copy inside node_modules is as old as the last installation. Warnings are left out: npm itself may run on
# a Node that packages warn of, and Nightshift never does.
node_modules/.package-lock.json: package-lock.json
	@echo "installing npm packages (a Node.js 24 of Nightshift's own among them)"
	npm ci --loglevel=error
	@touch $@

install: node_modules/.package-lock.json ## Install what Nightshift needs, from npm

demo: install ## The main story: a real leak is found and healed before users notice
	bin/nightshift demo leak

check: install ## Types
	$(NODE) node_modules/.bin/tsc -p tsconfig.json

lint: install ## Lint (purity of api, orient and decide), format, generated files
	node_modules/.bin/oxlint --type-aware --deny-warnings src agent hints test bench examples scripts
	node_modules/.bin/oxfmt --check src agent hints test bench examples scripts
	$(NODE) scripts/generate-docs.ts --check
	$(NODE) scripts/generate-crds.ts --check
	$(NODE) scripts/render-install.ts --check-chart

# Two files at a time, also on two cores: by itself Node leaves one of them idle, and most tests wait for something.
unit: install ## Unit, property, integration and real-process tests
	scripts/apt-install.sh prometheus prometheus-alertmanager postgresql redis-server openssl zsh iproute2
	$(NODE) --test --test-reporter=spec --test-concurrency=2 'src/**/*.test.ts' 'agent/**/*.test.ts' 'hints/*.test.ts' 'test/*.test.ts'

# Other seeds each day would find more, and nobody could tell a change that broke a rule from one that did not: the soak does that.
simulate: install ## The rules S1 to S25 and L1 to L4 in 1,000 simulated clusters with faults
	bin/nightshift simulate --seeds 1..1000

fuzz: install ## Real inputs of every decoder, changed: none of them may do more than be refused
	$(NODE) test/fuzz/main.ts

mutants: install ## Deliberate faults in the code: the rules find each of them where docs/mutants.md says
	$(NODE) test/mutants/main.ts --recorded

exhaustive: install ## Each write, watch event and read of base scenarios, perturbed in every way
	bin/nightshift simulate --exhaustive

scenarios: install ## The demo's scenarios in short form
	$(NODE) --test --test-reporter=spec --test-concurrency=1 'test/demo/*.test.ts'

sdks: install ## Hints sent by the official OpenTelemetry SDKs of Go, Python, Java and Node.js; calls counted by the Collector
	scripts/apt-install.sh python3-venv maven default-jdk-headless
	$(NODE) --test --test-reporter=spec 'test/sdk/*.test.ts'

cluster-test: build ## Tests on a real Kubernetes, built once from its Go modules
	@$(NODE) test/cluster/lane.ts
	$(NODE) --test --test-force-exit --test-reporter=spec --test-concurrency=1 'test/cluster/*.test.ts'

# Two files at a time, each on a cluster of its own: most of their time is waiting.
kubernetes: build ## Nightshift on a real Kubernetes: CRDs, chart, operator
	@$(NODE) test/cluster/lane.ts
	$(NODE) --test --test-force-exit --test-reporter=spec --test-concurrency=2 'test/kubernetes/*.test.ts'

test: check lint unit fuzz simulate mutants exhaustive scenarios sdks cluster-test kubernetes ## Everything that must pass before a change lands

bench: install ## Costs, as ratios with their method
	$(NODE) bench/main.ts

build: install ## JavaScript for the npm package, under dist/
	npm run build

docs: install ## Generate the reference from the schemas and the gates
	$(NODE) scripts/generate-docs.ts

crds: install ## Generate the CustomResourceDefinitions from the schemas
	$(NODE) scripts/generate-crds.ts

clean: ## Remove what was built and installed
	rm -rf dist node_modules
