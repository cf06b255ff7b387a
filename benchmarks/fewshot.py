"""A few labelled signals a class: from scratch, and after pre-training without labels.

`synth`: 50 synthetic emitters, 20 test messages of each; pre-training sees 8,000 messages of 200 *other* emitters, in recordings of ten messages. `quick`: the
same with 20 emitters and 2,000 messages of 100 others, for a look. `rtl433`: real 433 MHz recordings, a third of the files of each class held out; pre-training sees
all windows of the other files, without their labels. A shot is a *window* (of `synth` a message), drawn at random from those of its class in the files that are not
held out, wherever it lies; other methods see the same ones. Every network is trained for the same number of steps with the same augmentation; scores are the mean
recall of windows, of rtl433 over classes with at least three files, and there of files too (mean log-probability of their windows).

  scratch                    all weights from the start
  probe, lora, full          after pre-training: a new head on frozen features; low-rank additions too; everything
  probe, …                   after pre-training by another method or by other pairs (`PRETRAINING`), with `--choose`
  encoder, encoder, probe    the shipped network `iq_encoder`, which was trained *with* labels of synthetic transmitters (rtl433 alone, of the same kind)

Finished (data, shots, seed, method) are kept in the results file and not run again; what pre-training has learned is kept in `--work`. Run:
  python benchmarks/fewshot.py [--data synth rtl433] [--seeds 0 1 2] [--shots 1 5 10 20] [--methods scratch probe lora full] [--out FILE]
  python benchmarks/fewshot.py --choose --data quick --seeds 0 1 --shots 1 5      what the default of the stage `pretrain` was chosen by
"""
import argparse, os, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import pandas as pd
import torch

from lt_signals.core.files import shared_data
from lt_signals.core.random import seed_stream, setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import Split, stratified_split
from lt_signals.evaluation.predictions import group_labels, predict, vote
from lt_signals.io.readers import open_signals
from lt_signals.io.signal_store import SignalStore
from lt_signals.runs.pretrained import load_pretrained
from lt_signals.synth.emitters import synth_emitters
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner
from lt_signals.training.pretraining import Pretrain
from lt_signals.training.stages import TrainContext

PRETRAINING = {  # what is pre-trained: fields of `Pretrain`
    'recording': dict(method='simclr', pairs='recording'),
    'augmented': dict(method='simclr', pairs='augmented'),
    'byol': dict(method='byol', pairs='recording'),
    'byol, augmented': dict(method='byol', pairs='augmented')}
TUNING = {  # what is trained on the shots
    'scratch': lambda how: Stage1(lr=2e-3, **how),
    'probe': lambda how: Stage2(mode='crt', lr=1e-2, **how),
    'lora': lambda how: Stage2(mode='lora', lr=2e-3, **how),
    'full': lambda how: Stage2(mode='finetune', lr=2e-3, clf_lr_mult=2., **how)}
METHODS = dict(scratch=(None, 'scratch'), probe=('recording', 'probe'), lora=('recording', 'lora'), full=('recording', 'full'),
               **{f'probe, {k}': (k, 'probe') for k in PRETRAINING if k != 'recording'},
               **{'encoder': ('encoder', 'full'), 'encoder, probe': ('encoder', 'probe')})
DEFAULT = ['scratch', 'probe', 'lora', 'full', 'encoder', 'encoder, probe']
CHOICE = ['scratch', 'probe', *(f'probe, {k}' for k in PRETRAINING if k != 'recording')]
REAL = [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
        {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
        {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]


def emitters(n, seed, per, each=1):
    "A store of so many messages of `n` emitters, `each` of them to a recording."
    made = synth_emitters(n, counts=[per]*n, n_valid=0, n_test=0, seed=seed)
    x = SignalStore(made.source, 512, 'rms').take(np.arange(len(made)))
    number = np.tile(np.arange(per), n)
    meta = pd.DataFrame(dict(capture=made.labels*per + number//each))
    return SignalStore.from_arrays(x, made.labels, made.classes, meta)


def synth(seed, n=50, others=200, messages=40):
    "A store with its shots and its test, and what pre-training sees."
    store = emitters(n, 2*seed, 40)
    number = np.tile(np.arange(40), n)
    pool, test = (np.flatnonzero(o) for o in (number < 20, number >= 20))
    return dict(store=store, pool=pool, test=test, others=emitters(others, 2*seed + 1, messages, 10), net='ConvNetADSB', options={},
                augment=['PhaseRotation'], pre=dict(epochs=12))


def quick(seed): return synth(seed, 20, 100, 20)


def rtl433(seed):
    "As `synth`, for real recordings."
    folder = shared_data('rtl433')
    if folder is None: raise SystemExit('the recordings are not here: set LTS_DATA, or run with --data synth')
    store = open_signals(folder, window=4096, hop=2048, range_db=5., sample_rate=250e3, max_windows_per_capture=48, normalize='rms', in_memory=True)
    file = store.meta['capture'].to_numpy()
    _, _, held = stratified_split(group_labels(store.labels, file), (2/3, 0., 1/3), seed=seed)
    held = np.isin(file, np.unique(file)[held])
    return dict(store=store, pool=np.flatnonzero(~held), test=np.flatnonzero(held), others=None, net='SpectrumEnvelopeNet',
                options=dict(width=24, dropout_rate=.3), augment=REAL, pre=dict(epochs=12, augment=REAL))


def draw_shots(store, pool, n, seed):
    "`n` windows of each class, at random."
    rng = seed_stream(seed, 'shots')
    drawn = [rng.permutation(pool[store.labels[pool] == k])[:n] for k in np.unique(store.labels[pool])]
    return np.sort(np.concatenate(drawn))


def recalls(probs, store, test):
    "Mean recall of windows and of files, over the classes with at least three files; without files, of windows alone."
    y, file = store.labels[test], store.meta['capture'].to_numpy()
    many = np.bincount(group_labels(store.labels, file)) >= 3
    def recall(guess, truth): return float(np.mean([(guess[truth == k] == k).mean() for k in np.unique(truth) if many[k]]))
    res = dict(window=recall(probs.argmax(1).numpy(), y))
    if len(np.unique(file)) == len(file): return res
    votes = vote(probs.clamp_min(1e-3), file[test])
    return res | dict(file=recall(votes.probs.argmax(1).numpy(), group_labels(y, file[test])))


def learner(d, train, seed, store=None):
    "A learner for the data `d` with the given training windows, the same each time."
    setup_seed(seed)
    store, none = store or d['store'], np.zeros(0, np.int64)
    split = Split(train, none, d['test'] if store is d['store'] else none)
    dls = build_dataloaders(store, split=split, batch_size=64, augment=d['augment'], seed=seed, device=DEVICE)
    learn = classifier_learner(dls, d['net'], **d['options'])
    learn.model.to(DEVICE)
    return learn


def pretrained(d, data, seed, name, args):
    "Weights before the head: of the shipped encoder, or learned without labels (once)."
    if name == 'encoder': return load_pretrained('iq_encoder', 'cpu').model.backbone.state_dict(), 0.
    about = PRETRAINING[name] | d['pre'] | (dict(epochs=args.epochs) if args.epochs else {})
    file = Path(args.work)/f'{data}_{seed}_{name.replace(", ", "_")}_{about["epochs"]}.pt'
    if file.exists():
        kept = torch.load(file, weights_only=True)
        return kept['weights'], kept['seconds']
    store = d['others'] or d['store']
    learn = learner(d, np.arange(len(store)) if d['others'] else d['pool'], seed, store)
    res = Pretrain(**about).run(TrainContext(learn, seed, save=lambda fit=None: None, stage_seed=seed))
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(weights=learn.model.backbone.state_dict(), seconds=res['seconds']), file)
    print(f'{data} seed {seed} {name:17} {res["signals"]:,} signals in {res["groups"]:,} groups, loss '
          f'{res["history"][0]["train_loss"]:.2f} to {res["history"][-1]["train_loss"]:.2f}   {res["seconds"]:.0f} s', flush=True)
    return learn.model.backbone.state_dict(), res['seconds']


def run(d, data, shots, seed, method, args):
    "One row."
    t, (pre, tuning) = time.perf_counter(), METHODS[method]
    learn = learner(d, draw_shots(d['store'], d['pool'], shots, seed), seed)
    weights, before = (None, 0.) if pre is None else pretrained(d, data, seed, pre, args)
    if weights is not None: learn.model.backbone.load_state_dict(weights)
    how = dict(epochs=max(args.steps//10, 1), sampler='class_uniform', sampler_options=dict(at_least=640), weight_decay=.02, warmup_epochs=1.)
    begun = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        fit_stages(learn, [TUNING[tuning](how)], seed=seed, evaluate=lambda ctx, res: dict(rows={}))
    probs, seconds = predict(learn, learn.dls.test).probs, time.perf_counter() - begun
    found = {k: round(v, 4) for k, v in recalls(probs, d['store'], d['test']).items()}
    print(f'{data} {shots:2} shots, seed {seed}  {method:17} ' + '  '.join(f'{k}s {100*v:5.1f}' for k, v in found.items())
          + f'   {time.perf_counter() - t:.0f} s', flush=True)
    return dict(scores=found, train=len(learn.dls.train.indices), test=len(d['test']), seconds=round(seconds, 1), pretraining_seconds=round(before, 1))


def summary(rows):
    "Mean and deviation over seeds, and what is won over scratch on the same seed."
    for (data, shots), part in rows.frame().groupby(['data', 'shots'], sort=False):
        wide = 100*part.pivot(index='seed', columns='method', values='window')
        for m in [m for m in METHODS if m in wide]:
            won = (wide[m] - wide['scratch']).mean() if 'scratch' in wide else float('nan')
            print(f'{data} {shots:2} shots  {m:17} {wide[m].mean():5.1f} ± {wide[m].std(ddof=0):.1f}   {won:+5.1f} over scratch')


def main():
    global DEVICE
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['synth', 'rtl433'], choices=['synth', 'quick', 'rtl433'])
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--shots', nargs='+', type=int, default=[1, 5, 10, 20])
    p.add_argument('--methods', nargs='+', default=DEFAULT, choices=METHODS)
    p.add_argument('--choose', action='store_true', help='the ways of pre-training side by side: `CHOICE` instead of methods')
    p.add_argument('--steps', type=int, default=150, help='training steps of 64 windows on the shots')
    p.add_argument('--epochs', type=int, help='passes of pre-training, where they are to be others')
    p.add_argument('--work', default=str(Path(tempfile.gettempdir())/'lts_fewshot'), help='where pre-trained weights are kept')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    if args.choose: args.methods = CHOICE
    DEVICE = args.device
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name(DEVICE))
    for data in args.data:
        for seed in args.seeds:
            todo = [(n, m) for n in args.shots for m in args.methods if rows.find(data, m, seed, shots=n, steps=args.steps) is None
                    and (data == 'rtl433' or METHODS[m][0] != 'encoder')]
            if todo: d = globals()[data](seed)
            for n, m in todo: rows.add(data, m, seed, settings=dict(shots=n, steps=args.steps), **run(d, data, n, seed, m, args))
    summary(rows)


if __name__ == '__main__': main()
