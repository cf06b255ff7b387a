"""Every small benchmark of speed, one after the other: ours beside the fairest peer, in turns; about ten minutes on one core.

Rows go to benchmarks/speed.json; `python benchmarks/pages.py speed` shows them as "How fast, against what". Run:
  python benchmarks/speed.py [losses samplers ...]      or: make speed
"""
import argparse, os, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent
SMALL = 'blobs', 'constellation', 'loading', 'losses', 'pis', 'samplers', 'shards', 'step', 'streams', 'synth'


def main(names):
    failed = [n for n in names if subprocess.run([sys.executable, HERE/f'{n}.py', '--small'], env={**os.environ, 'OMP_NUM_THREADS': '1'}).returncode]
    if failed: sys.exit(f'failed: {", ".join(failed)}')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', default=SMALL, choices=[*SMALL, []], metavar='NAME', help=f'of {", ".join(SMALL)}; all when left out')
    main(p.parse_args().names)
