"""New classes for a finished network from 1, 5 and 10 examples each: what they gain, and what the old ones lose.

`synth`: 15 synthetic emitters of which 5, drawn by the seed, are kept out of training; the other 10 have 100 to 20 messages. `rtl433`: real
433 MHz recordings (found through LTS_DATA or in ../shared/data); 5 kinds of device with 4 to 20 recordings are kept out, the others are
trained on. Whole recordings are held out, of old and of new classes; an example is one window, and examples come from as many recordings as
there are. For every seed a run is trained on the old classes; then `adapt_run` adds the new ones by `means`, `head` and `full` without the
old recordings, and by `head, replay` with them; `anew` is a network trained from the start on the old training signals and the same
examples (square-root sampling, the settings of the first run). Scored on the same held-out signals over all classes together.

Finished (data, seed, shots, method) are kept in the results file and not run again. Run:
  python benchmarks/adapt.py [--data synth rtl433] [--seeds 0 1 2] [--shots 1 5 10] [--out benchmarks/adapt.json]
"""
import argparse, json, shutil, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import pandas as pd
import torch

from lt_signals.core.files import shared_data
from lt_signals.core.random import seed_stream, setup_seed
from lt_signals.core.rows import machine_name, row_frame, Rows
from lt_signals.data.dataloaders import build_dataloaders, LoaderConfig, make_split
from lt_signals.evaluation.predictions import predict
from lt_signals.io.readers import open_signals
from lt_signals.io.signal_store import SignalStore
from lt_signals.runs.adapt import adapt_run, choose_shots
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.finished import load_finished
from lt_signals.runs.prepare import run_loaders
from lt_signals.tasks.config import make_run_config, read_config
from lt_signals.tasks.emitter import synthetic_emitters
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner

METHODS = 'means', 'head', 'full', 'head, replay', 'anew'
AUGMENT = [{'RandomTimeShift': dict(max_shift=128, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
           {'PhaseRotation': {}}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
           {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]
SHARED = {'stage2.enabled': False, 'stage3.mode': 'none', 'visualization.enabled': False, 'progress': False, 'device': 'cpu',
          'openset.score': 'max_softmax', 'sampling.name': 'sqrt', 'training.lr': 3e-3}


def synth(seed, folder):
    "Configuration of the first run, and the store of the new classes."
    cfg = {'synth.n_classes': 15, 'synth.n_max': 100, 'synth.imbalance_ratio': 5., 'synth.n_valid': 10, 'synth.n_test': 30,
           'data.target_length': 256, 'model.name': 'ConvNetADSB', 'training.epochs': 15, 'seed': seed, **SHARED}
    store = synthetic_emitters(make_run_config(cfg))
    new = sorted(seed_stream(seed, 'new classes').permutation(15)[:5])
    new = [store.classes[i] for i in new]
    return cfg | {'openset.unknown': new}, store.select_classes(new)


def rtl433(seed, folder):
    "As `synth`, for the real recordings."
    path = shared_data('rtl433')
    if path is None: raise SystemExit('the recordings are not here: set LTS_DATA, or run with --data synth')
    how = dict(window=2048, hop=2048, range_db=5., max_windows_per_capture=10, sample_rate=250e3)
    cfg = {'data.path': str(path), 'data.options': how, 'data.augment': AUGMENT, 'data.val_ratio': .1, 'data.test_ratio': .3,
           'model.name': 'SpectrumEnvelopeNet', 'model.options': {'width': 16}, 'training.epochs': 10, 'seed': seed, **SHARED}
    store = open_signals(path, normalize='rms', **how)
    files = store.meta.assign(y=store.labels).groupby('y').capture.nunique().reindex(range(store.n_classes), fill_value=0)
    fit = [c for c,n in zip(store.classes, files) if 4 <= n <= 20]
    new = sorted(np.array(fit)[seed_stream(seed, 'new classes').permutation(len(fit))[:5]].tolist())
    return cfg | {'openset.unknown': new}, store.select_classes(new)


def anew(run, new, shots, seed):
    "Accuracy of new and of old classes of a network trained on everything."
    cfg, finished = read_config(run), load_finished(run.path, 'cpu')
    dls, _ = run_loaders(cfg, torch.device('cpu'))
    split = make_split(new, LoaderConfig(val_ratio=0., test_ratio=.5, seed=seed))
    rows = choose_shots(new, split.train, shots, seed)
    parts = [(dls.store, dls.train.indices, 'train', 0), (new, rows, 'train', len(finished.classes)),
             (dls.store, dls.test.indices, 'test', 0), (new, split.test, 'test', len(finished.classes))]
    x = torch.cat([s.take(i).cpu() for s,i,*_ in parts]).as_subclass(torch.Tensor)
    y = np.concatenate([s.labels[i] + at for s,i,_,at in parts])
    part = np.repeat([p for *_,p,_ in parts], [len(i) for _,i,*_ in parts])
    store = SignalStore.from_arrays(x, y, classes=[*finished.classes, *new.classes], meta=dict(part=part), layout='nct')
    setup_seed(seed)
    both = build_dataloaders(store, batch_size=cfg.data.batch_size, val_ratio=0., augment=cfg.data.augment, seed=seed, device='cpu')
    learn = classifier_learner(both, cfg.model.name, **cfg.model.options)
    stage = Stage1(epochs=cfg.training.epochs, lr=cfg.training.lr, sampler='sqrt')
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [stage], seed=seed)
    p = predict(learn, both.test)
    right, is_new = (p.labels == p.targets).float(), p.targets >= len(finished.classes)
    return dict(new=float(right[is_new].mean()), old=float(right[~is_new].mean()))


def one(run, new, shots, seed, method, folder):
    "Scores of one way, as fractions, and what else to keep."
    t = time.perf_counter()
    if method == 'anew': return dict(scores=anew(run, new, shots, seed), seconds=round(time.perf_counter() - t, 1))
    way, _, replay = method.partition(', ')
    got = adapt_run(run.path, new, shots, way, replay=bool(replay), epochs=10, out_dir=folder, seed=seed, progress=False, device='cpu')
    a = json.loads(got.results.read_text())['adapted']
    scores = dict(new=a['new']['after'], old=a['old']['after'], old_before=a['old']['before'])
    return dict(scores=scores, n_new=a['new']['n'], n_old=a['old']['n'], new_classes=a['new_classes'], seconds=round(time.perf_counter() - t, 1))


def table(rows):
    "Means over the seeds, percent; what the old classes lost is in points."
    df = row_frame(rows)
    before = df.groupby(['data', 'seed']).old_before.first()
    df['lost'] = df.set_index(['data', 'seed']).index.map(before) - df.old
    return (100*df.groupby(['data', 'shots', 'method'], sort=False)[['new', 'old', 'lost']].mean()).round(1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['synth', 'rtl433'], choices=['synth', 'rtl433'])
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--shots', nargs='+', type=int, default=[1, 5, 10], help='examples of each new class')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--threads', type=int, default=1, help='threads of torch')
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name())
    for data in args.data:
        for seed in args.seeds:
            todo = [(n, m) for n in args.shots for m in METHODS if not rows.find(data, m, seed, shots=n)]
            if not todo: continue
            folder = Path(tempfile.mkdtemp())
            cfg, new = globals()[data](seed, folder)
            t = time.perf_counter()
            run = run_experiment(cfg, out_dir=str(folder), exp_name='first')
            print(f'{data} seed {seed}: first run in {time.perf_counter() - t:.0f} s', flush=True)
            for shots,method in todo:
                r = rows.add(data, method, seed, settings=dict(shots=shots), **one(run, new, shots, seed, method, folder))
                got = r['scores']
                print(f'{data} seed {seed}, {shots} shots, {method}: new {got["new"]:.3f}, old {got["old"]:.3f}, {r["seconds"]} s', flush=True)
            shutil.rmtree(folder)
    if len(rows): print(table(rows).to_string())


if __name__ == '__main__': main()
