# One word per chore. Each makes .venv and installs into it by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-pretrained demo-ppo test lint bench table policies evaluate results docs clean

demo: export CADMUS_GYM_AGAIN := make demo

demo: .venv/installed-rl  ## pretrain, fine-tune with PPO, print the table: 10 minutes on two AVX-512 cores, about 22 by estimate with AVX2 alone
	@$(MAKE) --no-print-directory -j2 demo-pretrained demo-ppo
	@echo "stage 4 of 4: the table"
	$(BIN)/python benchmarks/table.py --model pretrained=runs/pico-arith/model --model "stopped halfway=runs/half/model" --model "PPO from there=runs/ppo/model" --output runs/table.json

# Stages 1 and 2 share the two cores; tqdm takes the label and the line of a bar from the environment.
demo-pretrained: .venv/installed-rl
	@echo "stage 1 of 4, on one core: pretraining a transformer"
	TQDM_DESC="stage 1" $(BIN)/python pretrain/train.py --recipe pico-arith --resume

demo-ppo: .venv/installed-rl
	@echo "stage 2 of 4, on the other core: pretraining again, stopped halfway on purpose: where PPO will start"
	TQDM_DESC="stage 2" TQDM_POSITION=1 $(BIN)/python pretrain/train.py --recipe pico-arith --folder runs/half --stop-at-truth 0.5 --evaluate-every 50 --resume
	@echo "stage 3 of 4: fine-tuning that one with PPO"
	TQDM_DESC="stage 3" TQDM_POSITION=1 $(BIN)/python agents/ppo.py --env Cadmus-Arith-v0 --checkpoint runs/half/model --folder runs/ppo --resume

# Two processes; the tests of a file stay together, since they share fixtures.
test: lint  ## lint, formatting, types and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

bench: .venv/installed-dev  ## how fast the package is; writes speed.json and transformer*.json of benchmarks/results
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/transformer.py --repeats 9
	$(BIN)/python benchmarks/transformer.py --sections completion --repeats 5 --env Cadmus-Loop-v0 --checkpoint cadmus_gym/_models/nano --output benchmarks/results/transformer-loop.json

table: .venv/installed-rl  ## measures the models `make demo` made on 10,000 prompts per split
	$(BIN)/python benchmarks/table.py --model pretrained=runs/pico-arith/model --model "stopped halfway=runs/half/model" --model "PPO from there=runs/ppo/model" --count 10000
	$(MAKE) --no-print-directory results

policies: .venv/installed-rl  ## what can be had without solving a problem; writes benchmarks/results/policies.md
	$(BIN)/python benchmarks/policies.py

evaluate: .venv/installed-dev  ## the figures, pages and pictures of the models in the package
	$(BIN)/python benchmarks/evaluate.py
	$(MAKE) --no-print-directory results

results: .venv/installed-dev  ## benchmarks/RESULTS.md and the README's table, from what was measured
	$(BIN)/python benchmarks/report.py

docs: .venv/installed-dev  ## write again what is generated: the table of instructions, the cards of environments
	$(BIN)/python -m cadmus_gym instructions --write cadmus_gym/LANGUAGE.md
	$(BIN)/python -m cadmus_gym cards --write

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed-%: pyproject.toml
	@echo "installing what [$*] needs into .venv, mostly PyTorch: a minute or two"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
