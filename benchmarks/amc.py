"""Networks for modulation and SNR on one synthetic set in the manner of RML2018.01A: accuracy at each SNR, size, training speed.

All 24 modulations, sent through the full channel (drawn pulse, timing, carrier, phase, multipath). Every network trains for the same number of epochs
with the same optimiser, schedule, augmentation (a turn of the phase) and heads, on modulation and SNR together; `DualViewNet` also on each alone.
The best epoch is chosen on validation. Frames per second are those of the training steps on this machine: of wall time on a GPU, of
processor time (all threads together) on a CPU.

Finished (network, tasks, seed) are kept in the results file and not run again. Run:
  python benchmarks/amc.py [--models MCLDNN DualViewNet ...] [--seeds 0] [--epochs 12] [--out benchmarks/amc.json]
"""
import argparse, os, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import torch
from fastai.callback.core import Callback

from lt_signals.core.random import setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.io.rml2018 import rml2018_classes
from lt_signals.evaluation.multitask import AMCAnalyzer, predict_tasks
from lt_signals.models.layers import count_parameters
from lt_signals.tasks.amc import amc_learner, grid_of
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages

OPTIONS = {'resnet18': dict(image_size=64)}
MODELS = ['CGDNet', 'GRU2', 'LSTM2', 'MCLDNN', 'PETCGDNN', 'MoEAMC', 'ResNet1D', 'resnet18', 'DualViewNet']
TASKS = ['modulation', 'snr']


class Speed(Callback):
    "Seconds spent in training epochs, and frames seen. On a CPU the seconds are the processor's, so that other work on the machine does not count."
    frames = seconds = 0
    def clock(self): return time.perf_counter() if self.dls.device.type == 'cuda' else time.process_time()
    def before_train(self): self.began = self.clock()
    def after_train(self): self.seconds += self.clock() - self.began
    def after_batch(self): self.frames += len(self.xb[0])*self.training


def run(name, tasks, seed, args):
    "Train one network; what is kept of it."
    store = synth_modulations(rml2018_classes, args.snrs, args.n_per, args.length, seed=seed)
    grid = grid_of(store)
    dls = build_dataloaders(store, batch_size=args.batch_size, val_ratio=.1, test_ratio=.2, stratify='snr_db', group=None,
                            augment=['PhaseRotation'], seed=seed, device=args.device, in_memory=True,
                            targets=[t for t in grid if t.name in tasks])
    setup_seed(seed)
    learn = amc_learner(dls, name, **OPTIONS.get(name, {}))
    learn.model.to(args.device)
    speed = Speed()
    monitor = 'combined_accuracy' if len(tasks) > 1 else f'{tasks[0]}_accuracy'
    stage = Stage1(epochs=args.epochs, lr=args.lr, weight_decay=.02, monitor=monitor)
    with learn.no_bar(), learn.no_logging(): fitted = fit_stages(learn, [stage], seed=seed, evaluate=lambda *_: {}, cbs=[speed])
    preds = predict_tasks(learn, dls.test)
    snr = torch.as_tensor(grid[1](store, dls.test.indices))
    res = AMCAnalyzer(grid[0].classes, grid[1].values).analyze(preds._replace(targets={**preds.targets, 'snr': snr}))
    recall = res['modulation'] and dict(zip(res['classes'], res['modulation']['recall_by_snr']))
    scores = dict(accuracy=res['accuracy'], mae_db=res['snr'] and res['snr']['mae_db'], by_snr=res['by_snr'],
                  qam={k: recall[k] for k in ('64QAM', '256QAM')} if recall else None, frames_per_s=round(speed.frames/speed.seconds, 1))
    return dict(scores=scores, parameters=count_parameters(learn.model.backbone), best_epoch=fitted[0]['best_epoch'], seconds=round(speed.seconds, 1),
                n_train=len(dls.train.indices), n_test=len(dls.test.indices), length=args.length, epochs=args.epochs)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--models', nargs='+', default=MODELS)
    p.add_argument('--alone', nargs='*', default=['DualViewNet'], help='networks that also train on each task alone')
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--snrs', nargs='+', type=float, default=[-10., -4., 2., 8., 14., 20., 26.])
    p.add_argument('--n_per', type=int, default=100, help='frames of each modulation at each SNR; 70 train, 10 validate, 20 test')
    p.add_argument('--length', type=int, default=256)
    p.add_argument('--epochs', type=int, default=12)
    p.add_argument('--lr', type=float, default=2e-3)
    p.add_argument('--batch_size', type=int, default=128)
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name(args.device))
    for seed in args.seeds:
        for name in args.models:
            for tasks in [TASKS] + [[t] for t in TASKS]*(name in args.alone):
                if rows.find('synth', name, seed, tasks=tasks): continue
                r = rows.add('synth', name, seed, settings=dict(tasks=tasks), **run(name, tasks, seed, args))
                a = ' '.join(f'{k} {100*v:5.1f}' for k,v in r['scores']['accuracy'].items() if v is not None)
                print(f'seed {seed} {name:12} {"+".join(tasks):15} {r["parameters"]:>9,} parameters  {a}  '
                      f'{r["scores"]["frames_per_s"]:.0f} frames/s', flush=True)


if __name__ == '__main__': main()
