"""Memory and speed of predictions: captures of one and of ten minutes, beside a plain loop of the same network over tensors that are ready.

A capture of 2.4 MS/s, unsigned 8-bit I/Q, holds telegrams of synthetic remote controls at several frequencies in noise; it is written to a temporary
folder (2.9 GB for ten minutes) and removed at the end. Two ways of asking, each measurement in a process of its own:

boxes   a detector finds the signals of the wide capture, each is cut out as its band, resampled to the rate of the run, and named
windows the same run over every window of a narrow capture at its own rate (250 kS/s), gated as in training

Peak memory is that of the process (resource.getrusage); `realtime` is seconds of capture for each second of the clock, `realtime_cpu` for each second of
processor time on all cores. `ratio` is the processor time of the plain loop over that of the prediction, both for as many windows, of the same network.
Results go into the results file. Run:
  python benchmarks/predict.py [--minutes 1 10] [--run RUN] [--detector RUN] [--min_cells 20] [--threads 2] [--out benchmarks/predict.json]
Runs are folders, or names of networks that ship; without --run and --detector, small ones are trained first (some minutes).
"""
import argparse, json, os, subprocess, sys, tempfile, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np

from lt_signals.core.rows import machine_name, Rows

WIDE, NARROW = 2.4e6, 250e3
MB = 2**20

MEASURE = """
import json, resource, sys, time, warnings
warnings.simplefilter('ignore')
import torch
from lt_signals.runs.predict_files import predict_files
from lt_signals.runs.predict_worker import PredictJob
from lt_signals.views.finder_options import FinderOverrides
args = json.loads(sys.argv[1])
if args['job'].get('finder'): args['job']['finder'] = FinderOverrides(**args['job']['finder'])
torch.set_num_threads(args['threads'])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)
before, cpu, t = peak(), time.process_time(), time.perf_counter()
record = predict_files(PredictJob(**args['job']), args['file'], args['out'], overwrite=True)
print(json.dumps(dict(rows=record['rows'], imports=before, peak=peak(), cpu_seconds=time.process_time() - cpu, seconds=time.perf_counter() - t)))
"""

LOOP = """
import json, sys, time, warnings
warnings.simplefilter('ignore')
import torch
from lt_signals.runs.pretrained import load_pretrained
run, n, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
run = load_pretrained(run, 'cpu')
x = torch.randn(4096, *run.recipe.shape)
for b in x[:1024].split(256): run.outputs(b)
cpu, t = time.process_time(), time.perf_counter()
for i in range(0, n, 4096):
    for b in x[:min(n - i, 4096)].split(256): run.outputs(b)
print(json.dumps(dict(cpu_seconds=time.process_time() - cpu, seconds=time.perf_counter() - t)))
"""


def bursts(k, n, rate, rng):
    "A telegram of remote control `k`, on and off in a pattern of its own, complex (n,)."
    unit = int(rate*(3e-4 + 1e-4*k))
    bits = rng.random(n//unit + 1) < .5
    on = np.repeat(np.where(bits, 1., .02 if k % 2 else .3), unit)[:n]
    shift = 2e3*(1 + k)*np.repeat(np.where(bits, 1., -1.), unit)[:n] if k % 3 == 0 else 0.
    return on*np.exp(2j*np.pi*np.cumsum(np.broadcast_to(shift, n))/rate)


def second(rate, places, rng, noise=.02):
    "A second of noise with telegrams (transmitter, frequency in Hz, start in s, length in s), uint8 (n, 2)."
    n = int(rate)
    z = noise*(rng.standard_normal((n, 2))@[1, 1j])
    for k, f, at, length in places:
        m, i = int(length*rate), int(at*rate)
        z[i:i + m] += .2*bursts(k, m, rate, rng)*np.exp(2j*np.pi*f/rate*np.arange(m))
    return np.stack([z.real, z.imag], 1).__mul__(127.5).__add__(127.5).round().clip(0, 255).astype('u1')


def write_wide(path, seconds):
    "A wide capture: twelve telegrams a second, four seconds of it over and over."
    rng = np.random.default_rng(0)
    some = [second(WIDE, [(int(rng.integers(6)), f, rng.uniform(.02, .7), rng.uniform(.02, .2)) for f in np.linspace(-1e6, 1e6, 12)], rng)
            for _ in range(4)]
    with open(path, 'wb') as f:
        for i in range(seconds): some[i % 4].tofile(f)


def write_narrow(path, seconds, k=None, seed=1):
    "A narrow capture of one transmitter, or of six by turns."
    rng = np.random.default_rng(seed)
    with open(path, 'wb') as f:
        for i in range(seconds): second(NARROW, [(i % 6 if k is None else k, rng.uniform(-5e4, 5e4), at, .2) for at in (.05, .35, .65)], rng).tofile(f)


def train(tmp):
    "A small run for transmitters, and a detector; their folders."
    import pandas as pd
    from lt_signals.runs.experiment import run_experiment
    from lt_signals.synth.scene_crops import scene_crops
    from lt_signals.synth.scenes import Scenes
    common = {'out_dir': str(tmp/'runs'), 'progress': False, 'device': 'cpu', 'visualization.enabled': False}
    for k in range(6):
        for i in range(4):
            (tmp/f'train/remote{k}').mkdir(parents=True, exist_ok=True)
            write_narrow(tmp/f'train/remote{k}/{i}.cu8', 1, k, seed=10*k + i)
    run = run_experiment(common | {'exp_name': 'remotes', 'data.path': str(tmp/'train'), 'data.normalize': 'rms', 'model.name': 'ResNet1D',
        'data.options': dict(window=1024, sample_rate=NARROW, max_windows_per_capture=60), 'training.epochs': 3, 'stage2.enabled': False}).path
    found = run_experiment(common | {'task': 'detection', 'exp_name': 'detector', 'training.epochs': 5}).path
    return run, found


def measure(job, file, out, threads):
    args = dict(job=job, file=str(file), out=str(out), threads=threads)
    p = subprocess.run([sys.executable, '-c', MEASURE, json.dumps(args)], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    return json.loads(p.stdout.splitlines()[-1])


def plain_loop(run, n, threads):
    p = subprocess.run([sys.executable, '-c', LOOP, str(run), str(n), str(threads)], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr[-2000:]
    return json.loads(p.stdout.splitlines()[-1])


def rows_of(args, run, detector, tmp):
    "A row for each way and length."
    for minutes in args.minutes:
        seconds = round(60*minutes)
        for way in args.ways:
            file = tmp/'capture.cu8'
            write_wide(file, seconds) if way == 'boxes' else write_narrow(file, seconds)
            rate = WIDE if way == 'boxes' else NARROW
            job = dict(run=str(run), sample_rate=rate, device='cpu', options=dict(max_windows_per_capture=None))
            if way == 'boxes': job |= dict(detector=str(detector), finder=args.min_cells and dict(min_cells=args.min_cells))
            got = measure(job, file, tmp/'table.csv', args.threads)
            file.unlink()
            settings = dict(seconds_of_capture=seconds) | (dict(min_cells=args.min_cells) if way == 'boxes' else {})
            scores = dict(rows=got['rows'], peak_mb=round(got['peak']/MB, 1), imports_mb=round(got['imports']/MB, 1), cpu_seconds=round(got['cpu_seconds'], 1),
                          realtime=round(seconds/got['seconds'], 2), realtime_cpu=round(seconds/got['cpu_seconds'], 2))
            if way == 'windows':
                loop = plain_loop(run, got['rows'], args.threads)
                scores |= dict(loop_cpu_seconds=round(loop['cpu_seconds'], 1), ratio=round(loop['cpu_seconds']/got['cpu_seconds'], 3))
            print(way, settings, scores, flush=True)
            yield dict(method=way, settings=settings, scores=scores, seconds=round(got['seconds'], 1))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--minutes', nargs='+', type=float, default=[1, 10], help='lengths of the captures')
    p.add_argument('--ways', nargs='+', default=['boxes', 'windows'], choices=['boxes', 'windows'])
    p.add_argument('--run', help='run that names signals, at 250 kS/s')
    p.add_argument('--detector', help='run of the task detection')
    p.add_argument('--min_cells', type=int, help='cells of the smallest box that is scored; as the detector was trained when left out')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--tmp', help='folder for captures; a temporary one when left out')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    args = p.parse_args()
    import torch
    with tempfile.TemporaryDirectory(dir=args.tmp) as tmp:
        run, detector = (args.run, args.detector) if args.run and args.detector else train(Path(tmp))
        torch.set_num_threads(args.threads)
        rows = Rows(args.out, run=Path(run).name, device=machine_name())
        for r in rows_of(args, run, detector, Path(tmp)): rows.add('made captures', **r)


if __name__ == '__main__': main()
