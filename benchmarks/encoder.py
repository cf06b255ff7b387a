"""Few examples of real 433 MHz devices: the shipped I/Q encoder against a network that starts from nothing.

A third of the files of each class is held out (never a window of a training file). Of the other files, `--shots` windows of each class are drawn, from as
many files as there are. Every way sees the same windows, with the same augmentation and the same number of steps; recall is the mean over the classes
with at least three files, of windows and of files (mean log-probability of their windows). The encoder was trained on synthetic signals only.

  scratch            SpectrumEnvelopeNet from random weights
  encoder            the same network from the encoder's weights, a new head trained faster than the rest
  encoder, mean      nothing is trained: nearest class mean of the encoder's features (cosine)
  features, mean     the same with the hand-made features of benchmarks/rtl433.py

Finished (shots, seed, way) are kept in the results file and not run again. The recordings are found through LTS_DATA or in ../shared/data. Run:
  python benchmarks/encoder.py [--encoder iq_encoder] [--shots 5] [--seeds 0 1 2] [--steps 120] [--out benchmarks/encoder.json]
"""
import argparse, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import torch

from lt_signals.core.device import evaluating
from lt_signals.core.files import shared_data
from lt_signals.core.random import seed_stream, setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import Split, stratified_split
from lt_signals.evaluation.metrics import class_scores, class_tally
from lt_signals.evaluation.predictions import group_labels, predict, vote
from lt_signals.io.readers import open_signals
from lt_signals.runs.pretrained import load_pretrained
from lt_signals.tasks.crop_learner import validated_on_training
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner
from rtl433 import features

AUGMENT = [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
           {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
           {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]


def hold_out(store, seed, share=1/3):
    "Test files, drawn at random within each class, and a few windows of the others to watch the training by."
    unit = store.meta['capture'].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a class with one file is in the training part only
        _, _, test = stratified_split(group_labels(store.labels, unit), (1 - share, 0., share), seed=seed)
    held = np.isin(unit, np.unique(unit)[test])
    train = np.flatnonzero(~held)
    watch = seed_stream(seed, 'watch').random(len(train)) < .05
    return Split(train[~watch], train[watch], np.flatnonzero(held))


def scores(probs, store, test):
    "Macro recall of windows and of files, over the classes with at least three files."
    y, file = store.labels[test], store.meta.capture.to_numpy()[test]
    all_files = group_labels(store.labels, store.meta.capture.to_numpy())
    scored = np.bincount(all_files, minlength=store.n_classes) >= 3
    votes = vote(probs.clamp_min(1e-3), file)

    def recall(guess, truth):
        tally = class_tally(torch.as_tensor(guess), torch.as_tensor(truth), store.n_classes).numpy()
        return class_scores(*tally)[1][scored & (tally[1] > 0)].mean()

    truth, guess = group_labels(y, file), votes.probs.argmax(1).numpy()
    wrong = [f'{f} as {store.classes[g]}' for f, g, t in zip(votes.groups, guess, truth) if g != t and scored[t]]
    return recall(probs.argmax(1), y), recall(guess, truth), wrong

WAYS = ['scratch', 'encoder', 'encoder, mean', 'features, mean']


def draw_shots(store, pool, n, seed):
    "`n` windows of each class, one file after the other, each window once."
    rng, res, file = seed_stream(seed, 'shots'), [], store.meta.capture.to_numpy()
    for k in np.unique(store.labels[pool]):
        mine = rng.permutation(pool[store.labels[pool] == k])
        _, code = np.unique(file[mine], return_inverse=True)
        turn = np.array([(code[:i] == c).sum() for i, c in enumerate(code)]) # how many of its file come before
        res += mine[np.argsort(turn, kind='stable')][:n].tolist()
    return np.array(sorted(res))


def network(store, shots, test, seed, args, encoder):
    "Train on the shots; from the weights of the encoder where it is given."
    setup_seed(seed)
    split = Split(shots, np.zeros(0, np.int64), test) # nothing is held out of five examples
    dls = validated_on_training(build_dataloaders(store, split=split, batch_size=64, augment=AUGMENT, seed=seed, device='cpu'))
    options = dict(width=args.width, dropout_rate=.3)
    learn = classifier_learner(dls, 'SpectrumEnvelopeNet', loss_options=dict(label_smoothing=.05), **options)
    how = dict(epochs=max(args.steps//10, 1), sampler='class_uniform', sampler_options=dict(at_least=640), weight_decay=.02,
               monitor='valid_loss', warmup_epochs=1.)
    stage = Stage1(lr=2e-3, **how)
    if encoder is not None:
        learn.model.backbone.load_state_dict(encoder.state_dict())
        stage = Stage2(mode='finetune', lr=args.lr, clf_lr_mult=args.mult, freeze_bn=args.freeze_bn, **how)
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [stage], seed=seed)
    return predict(learn, dls.test).probs


def nearest(f_shots, y, f_test, n_classes):
    "Softmax of the cosine to the mean of each class."
    middle, spread = f_shots.mean(0), f_shots.std(0) + 1e-3
    unit = lambda f: torch.nn.functional.normalize((f - middle)/spread, dim=-1)
    a, b = unit(f_shots), unit(f_test)
    means = torch.stack([a[y == k].sum(0) for k in range(n_classes)])
    logits = 10*b@torch.nn.functional.normalize(means, dim=-1).T
    logits[:, (means == 0).all(1)] = -torch.inf # classes without examples
    return logits.softmax(-1)


def embed(store, i, encoder):
    "Features of the encoder."
    with evaluating(encoder): return torch.cat([encoder(store.take(b)) for b in np.array_split(i, len(i)//256 + 1)])


def run(way, store, shots, test, seed, args, encoder):
    "Probabilities of the test windows."
    if way == 'scratch': return network(store, shots, test, seed, args, None)
    if way == 'encoder': return network(store, shots, test, seed, args, encoder)
    f = (lambda i: embed(store, i, encoder)) if way == 'encoder, mean' else (
        lambda i: torch.as_tensor(features(store.take(i))).float())
    return nearest(f(shots), store.labels[shots], f(test), store.n_classes)


def load_encoder(path):
    "The backbone of a finished run, or of a network that ships."
    return load_pretrained(path, 'cpu').model.backbone


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--encoder', default='iq_encoder', help='a name that ships, or the folder of a run')
    p.add_argument('--ways', nargs='+', default=WAYS)
    p.add_argument('--shots', type=int, nargs='+', default=[5])
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    p.add_argument('--steps', type=int, default=120, help='training steps of 64 windows')
    p.add_argument('--width', type=int, default=24)
    p.add_argument('--lr', type=float, default=5e-3, help='encoder: learning rate of the head')
    p.add_argument('--mult', type=float, default=5., help='encoder: rate of the head over that of the rest')
    p.add_argument('--freeze-bn', action='store_true', help='encoder: keep the statistics of BatchNorm')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    folder = shared_data('rtl433')
    if folder is None: raise SystemExit('The rtl433 recordings are not here: set LTS_DATA to the folder that holds rtl433/.')
    store = open_signals(folder, window=4096, hop=2048, range_db=5., sample_rate=250e3, max_windows_per_capture=48,
                         normalize='rms', in_memory=True)
    encoder = load_encoder(args.encoder) if any(w.startswith('encoder') for w in args.ways) else None
    rows = Rows(args.out, device=machine_name())
    for n in args.shots:
        for seed in args.seeds:
            split = hold_out(store, seed)
            shots = draw_shots(store, np.concatenate(split[:2]), n, seed)
            for way in args.ways:
                if rows.find('rtl433', way, seed, shots=n): continue
                t = time.perf_counter()
                window, file, _ = scores(run(way, store, shots, split.test, seed, args, encoder), store, split.test)
                rows.add('rtl433', way, seed, dict(window=round(float(window), 4), file=round(float(file), 4)), dict(shots=n),
                         steps=args.steps, train=len(shots), test=len(split.test), seconds=round(time.perf_counter() - t, 1))
                print(f'{n} shots, seed {seed}  {way:16} windows {window:.3f}  files {file:.3f}  {time.perf_counter() - t:.0f} s', flush=True)
        for way in args.ways:
            r = np.array([(r['scores']['window'], r['scores']['file']) for r in rows if (r['settings']['shots'], r['method']) == (n, way)])
            (w, f), (dw, df) = r.mean(0), r.std(0)
            print(f'{n} shots  {way:16} windows {w:.3f} ± {dw:.3f}  files {f:.3f} ± {df:.3f}')


if __name__ == '__main__': main()
