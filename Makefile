# Everything a newcomer or a contributor types; a fresh clone needs Python >= 3.10 and nothing else.
# `make PYTHON=python3.12 …` takes another interpreter, `make test ARGS="-k parity"` fewer tests.

PYTHON ?= python3
ARGS ?=
AT_ONCE := --numprocesses 2 --dist loadfile
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable
PIP := $(PY) -m pip --disable-pip-version-check install --quiet -c constraints.txt
RECORDINGS := shards/data/demo-recordings
SHARDS := shards/data/demo
RUN := runs/demo
CLIP := $(RECORDINGS)/clip-loop_safari.wav
RENDERED := $(RUN)/clip-loop_safari-ratio4.wav

say = echo "==> $(1)"
launch = $(PY) -m accelerate.commands.launch --config_file launch/accelerate/$(1) \
	launch/train.py --config launch/configs/demo.yaml --resume auto

.PHONY: help install train demo-training study-smoke test test-system fuzz faults lint

help:
	@echo "make train        install, make demo shards, train on them, evaluate, render a file"
	@echo "make study-smoke  a study of 24 tiny trainings, killed twice and continued, and its report"
	@echo "make test         install (DeepSpeed too), then all tests but the slow ones"
	@echo "make test-system  the slow tests: several machines, kills, the published size"
	@echo "make fuzz         10,000 mutated shards and indexes of each kind, half an hour"
	@echo "make faults       200 trainings, killed at random moments and resumed, an hour"
	@echo "make lint         ruff and mypy"
	@echo "make install      the virtual environment $(VENV) alone"

install: $(INSTALLED)

# torch comes first, pinned: several packages would pull the newest one otherwise.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "make: there is no $(PYTHON): install Python >= 3.10, or name one with PYTHON=..."; \
		exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "make: $(PYTHON) is older than 3.10: name a newer one with PYTHON=..."; exit 1; }
	@$(call say,making the virtual environment $(VENV))
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: $(PYTHON) cannot make a virtual environment: install its venv module"; exit 1; }
	@$(call say,installing torch (minutes the first time))
	@$(PIP) "pip>=22.3" torch
	@$(call say,installing the other packages)
	@$(PIP) -e ".[devices]"
	@touch $@

$(TESTABLE): $(INSTALLED)
	@$(call say,installing what tests and checks need, DeepSpeed among it)
	@$(PIP) -e ".[devices,deepspeed,remote,dev]"
	@touch $@

$(RECORDINGS)/manifest.yaml: $(wildcard sptmod_dist/data/clips/*.flac) | $(INSTALLED)
	@$(call say,recording the demo: music and test signals through a real compressor)
	@$(PY) -m sptmod_dist demo $(RECORDINGS)
	@touch $@

$(SHARDS)/test/index.json: $(RECORDINGS)/manifest.yaml launch/configs/demo.yaml
	@$(call say,cutting the recordings into shards)
	@$(PY) shards/build.py --config launch/configs/demo.yaml \
		--manifest $(RECORDINGS)/manifest.yaml --out $(SHARDS) --overwrite
	@touch $@

# Without a GPU: two processes over gloo. With GPUs: one process each, as many as divide the batch.
demo-training: $(INSTALLED) $(SHARDS)/test/index.json
	@gpus=$$($(PY) -c 'import torch; print(torch.cuda.device_count())') || exit 1; \
	if [ "$$gpus" -eq 0 ]; then \
		$(call say,training on two processes without a GPU); \
		OMP_NUM_THREADS=1 $(call launch,cpu.yaml); \
	else \
		batch=$$($(PY) launch/train.py --config launch/configs/demo.yaml --print_config \
			| sed -n 's/^batch_size: //p'); \
		n=$$gpus; while [ $$((batch % n)) -ne 0 ]; do n=$$((n - 1)); done; \
		$(call say,training on $$n of $$gpus GPU(s)); \
		[ $$n -eq $$gpus ] || echo "    ($$gpus do not divide the demo's batch of $$batch)"; \
		$(call launch,ddp.yaml --num_processes $$n); \
	fi

train: demo-training
	@$(call say,evaluating $(RUN) on clips that it never saw)
	@$(PY) -m sptmod_dist evaluate $(RUN)
	@$(call say,rendering $(CLIP) at ratio 4)
	@$(PY) -m sptmod_dist render $(RUN) $(CLIP) $(RENDERED) --control ratio=4 --overwrite
	@echo
	@echo "Results: $(RUN) (evaluation/report.md, tensorboard/, checkpoints/); listen to $(RENDERED)"
	@echo "Next:"
	@echo "  $(VENV)/bin/tensorboard --logdir runs"
	@echo "  $(VENV)/bin/sptmod-dist render $(RUN) YOURS.wav OUT.wav --control ratio=4"
	@echo "  README.md is the guide: your own recordings, other models, several GPUs"

# Each time from the start: what is there already would leave nothing to kill.
study-smoke: $(INSTALLED)
	@$(call say,24 tiny trainings, killed twice at a random moment and continued)
	@rm -rf studies/smoke
	@OMP_NUM_THREADS=1 $(PY) launch/study_smoke.py
	@echo "The report is studies/smoke/report. Next: launch/configs/study_small.yaml, README.md"

test: $(TESTABLE)
	@$(call say,running the tests)
	@OMP_NUM_THREADS=1 $(PY) -m pytest $(AT_ONCE) -m "not system" $(ARGS)
	@echo "Tests passed. Next: make lint, make train, or the section Contributing in README.md."

# pytest exits with 5 where it finds no test.
test-system: $(TESTABLE)
	@$(PY) -m pytest -m system --collect-only --quiet >/dev/null 2>&1; \
	if [ $$? -eq 5 ]; then \
		$(call say,there are no system tests yet); \
	else \
		$(call say,running the system tests); \
		OMP_NUM_THREADS=1 $(PY) -m pytest $(AT_ONCE) -m system $(ARGS); \
	fi

fuzz: $(TESTABLE)
	@$(call say,reading 10000 mutated shards and indexes of each kind)
	@SPTMOD_FUZZ=10000 OMP_NUM_THREADS=1 $(PY) -m pytest tests/data/test_shard_fuzz.py $(ARGS)

faults: $(TESTABLE)
	@$(call say,200 trainings with a fault each)
	@SPTMOD_FAULTS=200 OMP_NUM_THREADS=1 $(PY) -m pytest -s tests/faults/test_kills.py $(ARGS)

lint: $(TESTABLE)
	@$(call say,ruff)
	@$(PY) -m ruff check .
	@$(call say,mypy)
	@$(PY) -m mypy
