"""Does a network know the transmitter, or the receiver? Receivers, days and sessions that training never met, and what helps.

`receiver`: 20 synthetic emitters, 120 to 30 training messages each, heard by five receivers of which one is held out (another one for every
seed, and other emitters). `day`: the same on five days, of which one is held out. `quick`: 8 emitters and four receivers, for a look.
`rtl433`: real 433 MHz recordings (found through LTS_DATA or in ../shared/data), a third of the sessions of each class held out; classes of
one session are learned and cannot be tested. Every method has the same network and length of training:

  none              ordinary training on what is left
  known             training has met the held-out receiver too, with as many messages in all: what can be reached
  random receivers  each training signal behind another random front end (`RandomReceiver`)
  calibration       signals of each receiver mapped to an average one, by 200 of its signals without labels (`calibrated`)
  calibrated, random receivers    both, with smaller carrier offsets
  adversarial       features that do not tell one known receiver from another (stage `adversarial`)
  adversarial, unlabelled         the critic sees signals of the held-out receiver too, without labels
  few labels 1, 5   the network of `none` goes on with so many labelled signals of each class from the held-out receiver

Scores are mean recall over classes: `seen` on test messages of receivers that training has met, `unseen` on those of the held-out one; of
`rtl433` by window and by file. The signals without labels are those of the held-out receiver that would have been for training; the few
labels are of those for validation, or, of `rtl433`, windows of the test files, which are then left out of the scores of all such rows.

Finished (data, method, seed) are kept in the results file and not run again. Run:
  python benchmarks/receivers.py [--data receiver day rtl433 | quick] [--seeds 0 1 2 3 4] [--methods none known …] [--threads 1] [--out FILE]
"""
import argparse, os, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import torch

from lt_signals.core.files import shared_data
from lt_signals.core.random import seed_stream, setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.data.calibration import calibrated
from lt_signals.data.confounding import confounding
from lt_signals.data.dataloaders import build_dataloaders, LoaderConfig, make_split
from lt_signals.data.splits import Split
from lt_signals.evaluation.metrics import class_scores, class_tally
from lt_signals.evaluation.predictions import group_labels, predict, vote
from lt_signals.io.readers import open_signals
from lt_signals.io.signal_store import SignalStore
from lt_signals.synth.emitters import synth_emitters
from lt_signals.training.adaptation import Adaptation
from lt_signals.training.adversarial import Adversarial
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner

METHODS = ['none', 'known', 'random receivers', 'calibration', 'calibrated, random receivers', 'adversarial', 'adversarial, unlabelled',
           'few labels 1', 'few labels 5']
SYNTH = dict(
    receiver=dict(column='receiver', n_classes=20, n_max=120, imbalance_ratio=4., n_valid=25, n_test=50, receivers=5),
    day=dict(column='day', n_classes=20, n_max=120, imbalance_ratio=4., n_valid=25, n_test=50, days=5),
    quick=dict(column='receiver', n_classes=8, n_max=64, imbalance_ratio=1., n_valid=20, n_test=40, receivers=4))
REAL = [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
        {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
        {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]
EPOCHS = dict(receiver=20, day=20, quick=12, rtl433=8)
OFFSET = dict(receiver=.01, day=.004, quick=.01, rtl433=0.) # Largest carrier offset of random receivers, cycles per sample


class Case:
    "A store with a column whose values are held out, its split, and what of the held-out values may be used."
    def __init__(self, data, seed):
        self.data, self.seed, self.epochs = data, seed, EPOCHS[data]
        (self._recordings if data == 'rtl433' else self._synthetic)(seed)
        self.training = sorted({*self.store.meta[self.column].iloc[self.split.train].astype(str)})
        self.told = confounding(self.store, self.column, sorted({*self.store.meta[self.column].iloc[self.split.test].astype(str)}))

    def _synthetic(self, seed):
        "Emitters; the held-out value changes with the seed."
        how = dict(SYNTH[self.data])
        self.column = how.pop('column')
        self.held = seed % (how.get('receivers') or how['days'])
        self.store = SignalStore(synth_emitters(**how, seed=seed).source, None, 'rms')
        at, part = self.store.meta[self.column].to_numpy(), self.store.meta.part.to_numpy()
        new = at == self.held
        rows = lambda p, which: np.flatnonzero((part == p) & which)
        self.split = Split(rows('train', ~new), rows('valid', ~new), rows('test', new))
        self.seen, self.pool, self.labelled = rows('test', ~new), rows('train', new), rows('valid', new)
        self.net, self.augment, self.files = 'ConvNetADSB', ['PhaseRotation'], None

    def _recordings(self, seed):
        "Real recordings; a third of the sessions of each class is held out."
        folder = shared_data('rtl433')
        if folder is None: raise SystemExit('the recordings are not here: set LTS_DATA, or run with --data receiver day')
        store = open_signals(folder, sample_rate=250e3, window=4096, hop=2048, range_db=5, in_memory=True)
        self.column, self.store, self.held = 'group', store, 'a third of the sessions'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore') # classes of one session are in the training part only
            split = make_split(store, LoaderConfig(group='group', val_ratio=0., test_ratio=1/3, seed=seed))
        watch = seed_stream(seed, 'watch').random(len(split.train)) < .05
        self.split = split._replace(train=split.train[~watch], valid=split.train[watch])
        labelled = seed_stream(seed, 'few labels').permutation(self.split.test)
        self.seen, self.pool, self.labelled = self.split.valid, np.array([], np.int64), labelled
        self.net, self.augment, self.files = 'SpectrumEnvelopeNet', REAL, store.meta.capture.to_numpy()

    def few(self, shots):
        "So many labelled signals of each class, from what was held out."
        y, some = self.store.labels, seed_stream(self.seed, 'shots').permutation(self.labelled)
        return np.concatenate([some[y[some] == c][:shots] for c in range(self.store.n_classes)])

    def train_on(self, rows=None, store=None, augment=None, batch_size=32):
        "Loaders of the case."
        split = self.split if rows is None else self.split._replace(train=np.sort(rows))
        if rows is not None: split = split._replace(test=np.setdiff1d(split.test, rows))
        return build_dataloaders(self.store if store is None else store, split=split, batch_size=batch_size, seed=self.seed, device='cpu',
                                 augment=self.augment if augment is None else augment, in_memory=True)

    def with_pool(self):
        "Loaders of a store in which the signals without labels are the only ones that are in no part."
        keep = np.sort(np.concatenate([*self.split, self.pool]))
        split = Split(*(np.searchsorted(keep, i) for i in self.split))
        return build_dataloaders(self.store.subset(keep), split=split, batch_size=32, seed=self.seed, device='cpu', augment=self.augment)

    def recall(self, learn, dls, store, rows, shown):
        "Mean recall over classes, by row, and by file where there are files; recall of each class with its name."
        p = predict(learn, dls.test.new(store.subset(rows)))
        n = self.store.n_classes
        def mean(guess, true):
            r = class_scores(*class_tally(torch.as_tensor(guess), torch.as_tensor(true), n).numpy())[1]
            return float(np.nanmean(r)), r
        got = dict([(shown, mean(p.labels, p.targets)[0])])
        if self.files is not None:
            true, votes = group_labels(p.targets, self.files[rows]), vote(p.probs.clamp_min(1e-3), self.files[rows])
            got[f'{shown} files'], each = mean(votes.probs.argmax(1), true)
            got[f'{shown} classes'] = {c: round(float(v), 4) for c, v in zip(self.store.classes, each) if v == v}
        return got


def stage_of(case, **own):
    "Stage 1 of the case."
    real = dict(weight_decay=.02, sampler='sqrt', monitor='valid_loss') if case.data == 'rtl433' else {}
    return Stage1(epochs=case.epochs, lr=2e-3, **{**real, **own})


def adversarial(case, **own):
    "The adversarial stage of the case, with the settings of stage 1."
    s = stage_of(case)
    return Adversarial(epochs=s.epochs, lr=s.lr, weight_decay=s.weight_decay, sampler=s.sampler, monitor=s.monitor, column=case.column, **own)


def fit(case, dls, stage, weights=None):
    "A learner after a stage."
    setup_seed(case.seed)
    learn = classifier_learner(dls, case.net)
    if weights is not None: learn.model.load_state_dict(weights)
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [stage], seed=case.seed)
    return learn


def run(case, method, weights):
    "Learner, loaders and store of a method; None where the case has nothing for it."
    store, random = case.store, {'RandomReceiver': dict(max_offset=OFFSET[case.data], p=.8)}
    if method == 'none': dls, stage = case.train_on(), stage_of(case)
    elif method == 'known':
        if not len(case.pool): return None
        every = seed_stream(case.seed, 'known').permutation(np.concatenate([case.split.train, case.pool]))
        dls, stage = case.train_on(every[:len(case.split.train)]), stage_of(case)
    elif method == 'random receivers': dls, stage = case.train_on(augment=[*case.augment, random]), stage_of(case)
    elif method.startswith('calibrat'):
        few = {'RandomReceiver': dict(strength=.5, max_offset=OFFSET[case.data]/2, p=.8)}
        may = np.concatenate([case.split.train, case.pool if len(case.pool) else case.split.test, case.split.valid])
        store = calibrated(case.store, case.column, rows=may, reference=case.training, n=200, least=1, seed=case.seed)
        dls, stage = case.train_on(store=store, augment=[*case.augment, few] if 'random' in method else None), stage_of(case)
    elif method == 'adversarial': dls, stage = case.train_on(), adversarial(case)
    elif method == 'adversarial, unlabelled':
        if not len(case.pool): return None
        dls, stage = case.with_pool(), adversarial(case, unlabelled=True)
    else:
        some = case.few(int(method.split()[-1]))
        dls, stage = case.train_on(some, batch_size=16), Adaptation(epochs=10, mode='full', monitor='train_loss')
    return fit(case, dls, stage, weights if method.startswith('few') else None), dls, store


def run_case(data, seed, methods, rows):
    "Make the rows that are missing."
    todo = [m for m in methods if rows.find(data, m, seed) is None]
    if not todo: return
    case, weights = Case(data, seed), None
    if any(m.startswith('few') for m in todo) and 'none' not in todo: todo = ['none', *todo]
    for method in sorted(todo, key=METHODS.index):
        t = time.perf_counter()
        found = run(case, method, weights)
        if found is None: continue
        learn, dls, store = found
        if method == 'none': weights = {k: v.clone() for k, v in learn.model.state_dict().items()}
        # windows that few-label rows learn from are left out of every score of rtl433
        test = np.setdiff1d(case.split.test, case.few(5)) if data == 'rtl433' else case.split.test
        scores = case.recall(learn, dls, store, test, 'unseen') | case.recall(learn, dls, store, case.seen, 'seen')
        seconds = round(time.perf_counter() - t, 1)
        told = {k: v for k, v in case.told.record().items() if k not in ('values', 'held')}
        rows.add(data, method, seed, scores, held=str(case.held), seconds=seconds, confounding=told)
        print(f'{data} seed {seed} {method:30} unseen {100*scores["unseen"]:5.1f}  seen {100*scores["seen"]:5.1f}   {seconds:.0f} s', flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['receiver', 'day', 'rtl433'], choices=[*SYNTH, 'rtl433'])
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4])
    p.add_argument('--methods', nargs='+', default=METHODS, choices=METHODS)
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name('cpu'))
    for data in args.data:
        for seed in args.seeds: run_case(data, seed, args.methods, rows)


if __name__ == '__main__': main()
