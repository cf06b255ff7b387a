"""The sizes of `lts_train task=amc size=…`: how long each takes on this machine, and what it reaches on its own test. Rows: amc_sizes.json.

`seconds` are those of the processor, all threads together, with everything from opening the data to the figures; `wall_s` those of the clock. Run:
  python benchmarks/amc_sizes.py [--sizes quick small full] [--seed 0] [--threads 2]
"""
import argparse, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import torch

from lt_signals.core.rows import machine_name, Rows
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.results import load_run
from lt_signals.tasks.amc import amc_sizes


def measured(size, seed, threads):
    "Train a size as the command does; what a row keeps."
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        results = load_run(run_experiment(dict(task='amc', size=size, seed=seed, out_dir=folder, progress=False, threads=threads)).path)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    amc = results['stages'][-1]['amc']
    scores = dict(amc['accuracy'], mae_db=amc['snr']['mae_db'], from_10_db=above(amc['by_snr'], 10))
    return dict(scores=scores, seconds=round(cpu, 1), wall_s=round(wall, 1), classes=len(amc['classes']), snrs=len(amc['snr_values']), n_test=amc['n'])


def above(curves, least):
    "Accuracy of the modulation from an SNR on."
    at = [v for v, s in zip(curves['modulation'], curves['snr_db']) if s >= least]
    return sum(at)/len(at)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--sizes', nargs='+', default=['quick', 'small'], choices=amc_sizes)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name('cuda' if torch.cuda.is_available() else 'cpu'))
    for size in args.sizes:
        if rows.find('sizes', size, args.seed, threads=args.threads): continue
        r = rows.add('sizes', size, args.seed, settings=dict(threads=args.threads), **measured(size, args.seed, args.threads))
        print(f'{size:6} {r["seconds"]:8.0f} s of the processor, {r["wall_s"]:.0f} s  ' + ' '.join(f'{k} {v:.3f}' for k, v in r['scores'].items()), flush=True)


if __name__ == '__main__': main()
