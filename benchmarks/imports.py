"""Processor time of `import lt_signals.all`, over that of what it cannot do without: torch, and fastai's learner and data block.

    python benchmarks/imports.py            five processes each, in turn; the medians, and their ratio
    python benchmarks/imports.py 9          so many
"""
import os
import subprocess
import sys
from statistics import median

BASE, OURS = 'import torch, fastai.learner, fastai.data.all', 'import lt_signals.all'
MOST = 1.5  # what the ratio may be


def cost(code):
    "Processor time of a process that runs `code`, in s."
    code = f'{code}\nimport time; print(time.process_time())'
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    said = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True, env=env)
    return float(said.stdout.split()[-1])


def main(n=5):
    pairs = [(cost(BASE), cost(OURS)) for _ in range(n)]
    base, ours = (median(p) for p in zip(*pairs))
    print(f'{base:5.2f} s  {BASE}\n{ours:5.2f} s  {OURS}\n{ours/base:5.2f}    ratio, at most {MOST}')
    return ours/base > MOST


if __name__ == '__main__': sys.exit(main(*map(int, sys.argv[1:])))
