"""Start a training; the program itself is in the package, this is what launchers point at.

On a laptop, one process:
    python launch/train.py --config launch/configs/demo.yaml

Two processes on a machine without a GPU:
    OMP_NUM_THREADS=1 accelerate launch --config_file launch/accelerate/cpu.yaml \\
        launch/train.py --config launch/configs/demo.yaml

Every GPU of this machine:
    accelerate launch --config_file launch/accelerate/ddp.yaml \\
        launch/train.py --config launch/configs/sptmod25.yaml

One GPU of several:
    CUDA_VISIBLE_DEVICES=0 python launch/train.py --config launch/configs/sptmod25.yaml

By torchrun, two nodes of four GPUs, the same line on both:
    torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:PORT \\
        launch/train.py --config launch/configs/sptmod25.yaml

Any setting can be overridden (`--batch_size 32 --model.hidden_size 16`); `--resume` goes on where
a run stopped; `--help` tells the rest.
"""

import sys

from sptmod_dist.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
