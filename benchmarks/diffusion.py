"""Does a class-conditional diffusion model help rare emitters? Accuracy at equal training steps, and two-sample tests of its signals.

12 synthetic emitters that differ in hardware alone, six with 120 training messages and six with 8; 10 validation and 40 test messages
of every emitter; 96 samples (the first 24 microseconds of a Mode S message) at 4 MS/s; a fresh set of emitters for every seed. All
methods have the same network, optimiser, schedule, number of steps and random rotation of the phase; the best epoch is chosen on
validation. One generator a seed is trained on the training messages alone; the network of `oversampling` assesses its signals.

  none          messages as often as they are in the set
  oversampling  every class equally often
  physical      the same, with time shift, level, noise and fading drawn anew each time
  diffusion     oversampling, rare classes filled up to 60 messages by generated ones that pass the filter
  unfiltered    the same with generated messages as they come
  both          diffusion with the physical augmentations

Finished seeds are kept in the results file and not run again. Run:
  python benchmarks/diffusion.py [--seeds 0 1 2] [--methods none oversampling ...] [--out benchmarks/diffusion.json]
"""
import argparse, os, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import torch

from lt_signals.core.random import setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.io.signal_store import SignalStore
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.synth.emitters import synth_emitters
from lt_signals.evaluation.analysis import ClassificationAnalyzer
from lt_signals.evaluation.generated import two_sample
from lt_signals.evaluation.metrics import summary_row
from lt_signals.training.generator_stage import DiffusionStage
from lt_signals.data.mixed import mixed_loader
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.learner import classifier_learner
from lt_signals.training.fit import fit_stages

COUNTS, RATE, LENGTH = [120]*6 + [8]*6, 4e6, 96
PHYSICAL = [{'RandomTimeShift': dict(max_shift=2)}, {'RandomAmplitude': dict(scale_range=(-3, 3), db=True)},
            {'RandomNoiseSNR': dict(snr_range=(12, 30))}, {'Fading': dict(n_taps=2, k_db=12.)}]
METHODS = {  # sampler, physical augmentations, generated signals
    'none': ('none', False, None), 'oversampling': ('class_uniform', False, None),
    'physical': ('class_uniform', True, None), 'diffusion': ('class_uniform', False, 'kept'),
    'unfiltered': ('class_uniform', False, 'unfiltered'), 'both': ('class_uniform', True, 'kept'),
}


def loaders(store, seed, physical=False):
    "Loaders of the set, with or without the physical augmentations."
    augment = ['PhaseRotation', *(PHYSICAL if physical else [])]
    return build_dataloaders(store, batch_size=64, augment=augment, seed=seed, device=DEVICE, in_memory=True)


def train_generator(store, seed, classifier, epochs):
    "Generated signals, those that pass and as they come, and a record of how they were made and how like real ones they are."
    start, stage = time.perf_counter(), DiffusionStage(epochs=epochs, max_ratio=6.5, steps=25, options=dict(width=24, levels=3))
    dls = loaders(store, seed)
    setup_seed(seed)
    diffusion, history, best = stage.train(dls, seed)
    trained, augment = time.perf_counter(), stage.augmenter(diffusion)
    x, y = augment.draw(2*augment.plan(dls.class_counts), seed)
    (kept, table), (every, _) = (augment.select(x, y, dls.train, m) for m in (classifier, None))
    made = dict(kept=(x[kept], y[kept]), unfiltered=(x[every], y[every]))
    took = dict(train=round(trained - start, 1), generate=round(time.perf_counter() - trained, 1))
    real, rare = dls.split.test, np.flatnonzero(np.array(COUNTS) < 20)
    real = store.take(real[np.isin(store.labels[real], rare)])
    likeness = {k: two_sample(real, o[0], seed).to_dict('index') for k, o in made.items() if len(o[0]) >= 10}
    half = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    likeness['real against real'] = two_sample(real[half[::2]], real[half[1::2]], seed).to_dict('index')
    scores = dict(valid_loss=history[best]['valid_loss'], filter=table.to_dict('index'), likeness=likeness)
    record = dict(method='generator', seed=seed, scores=scores, epochs=epochs, best_epoch=best, took=took, seconds=round(sum(took.values()), 1))
    return made, record


def train_classifier(store, seed, method, made, epochs):
    "The learner and its record."
    start, (sampler, physical, which) = time.perf_counter(), METHODS[method]
    dls = loaders(store, seed, physical)
    if which is not None: dls = dls.with_train(mixed_loader(dls.train, *made[which]))
    setup_seed(seed)
    learn = classifier_learner(dls, 'ConvNetADSB')
    learn.model.to(DEVICE)
    rule = dict(grouping='absolute', many_thresh=100, few_thresh=20)
    analyzer = ClassificationAnalyzer(dls.train.real_counts, classes=list(dls.vocab), **rule)
    stage = Stage1(epochs=epochs, sampler=sampler, sampler_options=dict(num_samples=sum(COUNTS)))
    with learn.no_bar(), learn.no_logging(): res, = fit_stages(learn, [stage], seed=seed, analyzer=analyzer)
    row = summary_row(res['test'])
    print(f'seed {seed} {method:13}' + ' '.join(f'{k} {100*(v or 0):5.1f}' for k, v in row.items()), flush=True)
    return learn, dict(method=method, seed=seed, scores=dict(test=row, valid=summary_row(res['valid'])), best_epoch=res['best_epoch'],
                       generated=0 if which is None else len(made[which][0]), seconds=round(time.perf_counter() - start, 1))


def run_seed(seed, methods, args):
    "Records of one seed: the generator, and every method."
    made = synth_emitters(counts=COUNTS, n_valid=10, n_test=40, sample_rate=RATE, target_length=LENGTH, seed=seed)
    store, records = SignalStore(made.source, LENGTH, 'rms'), []
    assessor, rec = train_classifier(store, seed, 'oversampling', None, args.epochs)
    generated = None
    if any(METHODS[m][2] for m in methods):
        generated, facts = train_generator(store, seed, assessor.model, args.generator_epochs)
        print(f'seed {seed} generator, kept {sum(r["kept"] for r in facts["scores"]["filter"].values())}', facts['took'], flush=True)
        records.append(facts)
    for m in methods:
        records.append(rec if m == 'oversampling' else train_classifier(store, seed, m, generated, args.epochs)[1])
    return records


def main():
    global DEVICE
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--methods', nargs='+', default=list(METHODS), choices=list(METHODS))
    p.add_argument('--epochs', type=int, default=30, help='of every classifier')
    p.add_argument('--generator-epochs', type=int, default=100)
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    DEVICE = args.device
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name(DEVICE))
    for seed in args.seeds:
        todo = [m for m in args.methods if not rows.find('synth', m, seed)]
        if not todo: continue
        for r in run_seed(seed, todo, args): rows.add('synth', **r)


if __name__ == '__main__': main()
