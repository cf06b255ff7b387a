"""Who is told apart by what: two simulated aircraft, whose transmitters are equal or differ, seen by their preambles or by whole messages.

Each seed makes a recording of two aircraft that send their addresses (`synth.aircraft`), 250 messages of each to train on, 50 to validate and 1,000 to test. A small `ResNet1D` is trained for 8 epochs and
tested; chance is one half. `equal, preamble` is the default of `read_modes` and must stay at chance, `equal, message` shows the leak that it closes, `differ, preamble` that the hardware is still seen. The
other cases try to break the default: one aircraft sends format 11 and the other 17, addresses of equal and of alternating bits, other sample rates.

Finished (case, rate, seed) are kept in the results file and not run again. Run:
  python benchmarks/content.py [--seeds 0 1 2 3 4] [--cases 'equal, preamble'] [--out benchmarks/content.json]
"""
import argparse, tempfile, time, warnings

warnings.simplefilter('ignore')
import numpy as np
import torch

from lt_signals.core.random import setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import Split
from lt_signals.evaluation.leakage import leak_check
from lt_signals.evaluation.predictions import predict
from lt_signals.io.readers import open_signals
from lt_signals.synth.aircraft import write_aircraft
from lt_signals.synth.impairments import EmitterSpread
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner

EQUAL = dict(addresses=['4d2023', 'acf497'], spread=EmitterSpread().scaled(0))
HARD = EQUAL | dict(addresses=['000000', '555555']) # chips of the one alternate, of the other do not
CASES = {'equal, preamble': (4e6, 'preamble', EQUAL), 'equal, message': (4e6, 'message', EQUAL),
         'differ, preamble': (4e6, 'preamble', EQUAL | dict(spread=None)),
         'equal, fixed': (4e6, 'fixed', EQUAL), 'formats differ': (4e6, 'preamble', EQUAL | dict(short=[0., 1.])),
         'formats differ, 2 MS/s': (2e6, 'preamble', EQUAL | dict(short=[0., 1.])),
         'runs of bits, 2 MS/s': (2e6, 'preamble', HARD), 'runs of bits, 2.4 MS/s': (2.4e6, 'preamble', HARD),
         'runs of bits, 10 MS/s': (10e6, 'preamble', HARD)}


def parts(labels, seed, n_train=250, n_valid=50):
    "A split with as many test messages of both aircraft."
    rng = np.random.default_rng(seed)
    each = [rng.permutation(np.flatnonzero(labels == c)) for c in range(2)]
    n = min(map(len, each))
    return Split(*(np.concatenate([e[a:b] for e in each]) for a,b in ((0, n_train), (n_train, n_train + n_valid), (n_train + n_valid, n))))


def run(case, seed, n_test=1000, epochs=8):
    "Scores of one network, and what they are of."
    rate, part, how = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        write_aircraft(f'{folder}/two.cs16', n_messages=300 + n_test, sample_rate=rate, seed=seed, **how)
        store = open_signals(f'{folder}/two.cs16', format='modes', sample_rate=rate, part=part, normalize='rms').load()
    t, split, bits = time.perf_counter(), parts(store.labels, seed), leak_check(store)
    setup_seed(seed)
    learn = classifier_learner(build_dataloaders(store, split=split, batch_size=32, seed=seed, device='cpu'), 'ResNet1D')
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [Stage1(epochs=epochs, lr=2e-3)], seed=seed)
    preds = predict(learn, learn.dls.test)
    right = float((preds.logits.argmax(1) == preds.targets).float().mean())
    scores = dict(accuracy=right, decoded=len(store)/(600 + 2*n_test), bits_alone=bits.accuracy, leaks=bits.leaks)
    return dict(scores=scores, rate=rate, part=part, n_test=len(split.test), shape=list(store.sample_shape), seconds=round(time.perf_counter() - t, 1))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    p.add_argument('--cases', nargs='+', default=[*CASES], choices=[*CASES])
    p.add_argument('--out', default='benchmarks/content.json')
    args = p.parse_args()
    torch.set_num_threads(1)
    rows = Rows(args.out, device=machine_name())
    for seed in args.seeds:
        for case in args.cases:
            if rows.find('aircraft', case, seed): continue
            r = rows.add('aircraft', case, seed, **run(case, seed))
            print(f'{case} (seed {seed}): {100*r["scores"]["accuracy"]:.1f} %', flush=True)
