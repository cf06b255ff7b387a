"""Every figure of the library with five classes and with a thousand: what is written can be read, and functions that draw keep to one contract.

The results are made up, without a training. Text is measured after the layout: tick labels, titles, labels and legends do not
cover each other, stay on the canvas, have 6 points or more, and axes say what they show in which unit.
"""
import ast
import re
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lt_signals
import lt_signals.explain.pointing  # registers a figure
import lt_signals.tasks.crop_scores  # registers two
from lt_signals.core.counts import class_groups, long_tail_counts
from lt_signals.evaluation.analysis import ClassificationAnalyzer
from lt_signals.evaluation.diagnostics import diagnostics, spread_samples
from lt_signals.evaluation.figures import describe_figure, figures, PRINT_WIDTH
from lt_signals.evaluation.multilabel import MultiLabelAnalyzer
from lt_signals.evaluation.multitask import AMCAnalyzer
from lt_signals.evaluation.open_measures import open_set_analysis, open_set_curves
from lt_signals.evaluation.predictions import Predictions
from lt_signals.tasks.crop_scores import crop_figures

KINDS = 'Acurite-Tower', 'LaCrosse-TX141', 'Nexa', 'Oregon Scientific v2.1', 'TPMS', 'X10'


def class_names(n):
    "Names as people give them: short, long, and numbered."
    return [f'{KINDS[i % len(KINDS)]}{"" if i < len(KINDS) else f" {i//len(KINDS)}"}' for i in range(n)]


def history(rng, epochs):
    "Rows of a training history."
    loss = 1.8*np.exp(-np.arange(epochs)/3) + .3 + .05*rng.random(epochs)
    lr = [2e-3*min((i + 1)/2, 1)*np.cos(i/epochs*np.pi/2) for i in range(epochs)]
    return [dict(epoch=i, lr=r, train_loss=l, valid_loss=l + .1 + .02*i, accuracy=.95 - l/3, macro_recall=.9 - l/2.4)
            for i, (l, r) in enumerate(zip(loss, lr))]


def class_stages(n, per_class, seed=0):
    "Three stages of a classifier whose rare classes are pulled to the frequent ones."
    rng = np.random.default_rng(seed)
    counts = rng.permutation(long_tail_counts(2000, n, 400))
    analyzer = ClassificationAnalyzer(counts, classes=class_names(n))
    truth = np.repeat(np.delete(np.arange(n), n//3), per_class)  # one class has no test samples

    def stage(name, bias, epochs):
        clean = bias*np.log(counts/counts.max()) + 4.5*np.eye(n)[truth]
        preds = Predictions(torch.as_tensor(clean + rng.gumbel(size=clean.shape)), torch.as_tensor(truth))
        shown = truth[spread_samples(truth, 500)]
        points = lambda d: 20*rng.normal(size=(n, d))[shown] + 2*rng.normal(size=(len(shown), d))
        embedding = dict(labels=shown.tolist(), tsne_2d=points(2).tolist(), tsne_3d=points(3).tolist())
        curves = diagnostics(preds, analyzer) if n <= 100 else {}  # the same with very many classes, and slow
        return dict(name=name, history=history(rng, epochs), test=analyzer.analyze(preds), embedding=embedding, **curves)
    last = stage('tau_norm', .2, 0)
    return [stage('stage1', 1., 10), stage('crt', .4, 5), last] if n <= 100 else [last]


def amc_stage(n, signals=2000, seed=0):
    "A stage of modulation and SNR: better with SNR, neighbours are confused."
    g, snrs = torch.Generator().manual_seed(seed), np.arange(-20, 31, 2)
    ym, ys = torch.randint(n, (signals,), generator=g), torch.randint(len(snrs), (signals,), generator=g)
    good = torch.sigmoid((torch.as_tensor(snrs)[ys] + 2)/3.)[:, None]
    near = lambda y, k: -.7*(torch.arange(k) - y[:, None]).abs().clamp_max(6)
    zm = 7*good*near(ym, n)/4 + torch.randn(signals, n, generator=g)
    zs = (.3 + 2*good)*near(ys, len(snrs)) + torch.randn(signals, len(snrs), generator=g)
    res = AMCAnalyzer(class_names(n), snrs).analyze(Predictions(dict(modulation=zm, snr=zs), dict(modulation=ym, snr=ys)))
    weights = [dict(epoch=i, modulation=.5 + .5*i/9, snr=1.5 - .5*i/9) for i in range(10)]
    return dict(name='stage1', amc=res, history=history(np.random.default_rng(0), 10), task_weights=weights)


def label_stage(n, samples=1000, seed=0):
    "A stage of several labels an image."
    rng = np.random.default_rng(seed)
    counts = long_tail_counts(600, n, 60)
    y = rng.random((samples, n)) < np.clip(counts/counts.sum()*1.2, 3/samples, .6)
    y[:n, :][np.eye(min(n, samples), n, dtype=bool)[:n]] = True
    p = 1/(1 + np.exp(-(2*rng.normal(size=y.shape) + 5*y - 3)))
    return dict(name='stage1', labels=MultiLabelAnalyzer(counts, 2000, class_names(n)).analyze_predictions(y, p, .5))


def open_stage(n, seed=0):
    "A stage with a score of unknown signals."
    rng, counts = np.random.default_rng(seed), long_tail_counts(2000, n, 400)
    y = np.r_[rng.integers(0, n, 2000), np.full(1000, -1)]
    predicted = np.where(rng.random(3000) < .85, y, 0).clip(0)
    groups = class_groups(counts)
    rare = np.array([dict(many=0, medium=.5, few=1.)[g] for g in groups])[y.clip(0)]
    s = rng.normal(size=3000) + np.where(y < 0, 2.5, rare)
    res = open_set_analysis(s, y, predicted, 1.6, counts)
    return dict(name='stage1', openset=res | dict(score='knn', curves=open_set_curves(s, y, predicted, groups)))


def crop_stage(seed=0):
    "A stage of crops with and without signals."
    rng = np.random.default_rng(seed)
    y = (rng.random(4000) < .1).astype(int)
    return dict(name='stage1', crops=crop_figures(1/(1 + np.exp(-(1.5*rng.normal(size=4000) + 5*y - 3))), y, .4))


def pointing_stage(n):
    "A stage with a table of the pointing game."
    rows = [{'class': c, 'method': m, 'hit': (.3 + .6*((i*7 + j) % 10)/10), 'chance': .1, 'n': 20}
            for i, c in enumerate(class_names(n)) for j, m in enumerate(('gradcam', 'cbam', 'random'))]
    return dict(name='stage1', pointing=rows)


def made_results(n):
    "Stages that have something for every figure."
    classes = class_stages(n, max(1, min(60, 1000//n)))
    others = [amc_stage(n), label_stage(n), open_stage(n), crop_stage(), pointing_stage(n)]
    return classes, others

def results_for(name, classes, others):
    "The made-up stages that a figure needs."
    needs = {k.split('.')[0] for k in figures.info[name]['needs']}
    return classes if needs <= {*classes[0]} else [s for s in others if needs <= {*s}]


# What is written on a figure

def drawn_ticks(axis):
    "Tick labels within the axes."
    low, high = sorted(axis.get_view_interval())
    ticks = [t for t in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= t.get_loc() <= high]
    return [text for t in ticks for text in (t.label1, t.label2)]


def texts_of(ax):
    "Texts of axes by kind."
    yield 'title', [ax.title]
    for axis in ax._axis_map.values() if ax.axison else ():
        yield 'label', [axis.label]
        yield 'tick', drawn_ticks(axis)
    if ax.name != '3d': yield 'note', ax.texts  # in space they do not know where they are
    if ax.get_legend(): yield 'legend', [*ax.get_legend().get_texts(), ax.get_legend().get_title()]


def written(fig):
    "Kind, text and box of everything that can be read on a figure."
    for ax in fig.findobj(Axes):
        inside = ax.get_window_extent()
        for kind, texts in texts_of(ax):
            for t in texts:
                if not (t.get_visible() and t.get_text().strip()): continue
                box = t.get_window_extent()
                if kind == 'note' and inside.overlaps(box): kind_ = 'inner note'
                else: kind_ = kind
                yield kind_, t, box


def overlap(a, b): return min(a.x1, b.x1) - max(a.x0, b.x0) > .5 and min(a.y1, b.y1) - max(a.y0, b.y0) > .5


UNIT = r'\(.+\)|class|epoch|loss|rate|stage|label|samples|crops|modulation|→'


def faults(fig, flat=True):
    "What cannot be read on a figure; axes of three dimensions are not asked for ticks and collisions."
    fig.draw_without_rendering()
    seen = [*written(fig)]
    main = fig.axes[0]
    res = [] if any(kind == 'title' for kind, *_ in seen) else ['no title']
    for axis in (main.xaxis, main.yaxis) if main.axison else ():
        if not re.search(UNIT, axis.label.get_text()): res.append(f'{axis.axis_name} is labelled {axis.label.get_text()!r}')
    for kind, t, box in seen:
        if t.get_fontsize() < 6: res.append(f'{t.get_text()!r} in {t.get_fontsize():.1f} pt')
        out = box.x0 < -1 or box.y0 < -1 or box.x1 > fig.bbox.x1 + 1 or box.y1 > fig.bbox.y1 + 1
        if out: res.append(f'{t.get_text()!r} leaves the canvas')
    apart = [(t, box) for kind, t, box in seen if kind != 'inner note'] if flat else []
    return res + [f'{a.get_text()!r} covers {b.get_text()!r}' for (a, p), (b, q) in combinations(apart, 2) if overlap(p, q)]


# With a thousand classes these look as they do with five, or are laid out as another one that is drawn
ALIKE = {'history', 'task_weights', 'calibration', 'confidence', 'roc', 'openset', 'crops'}
SAME_LAYOUT = {'confusion_normalized', 'confusion_by_snr', 'snr_confusion', 'accuracy_vs_snr', 'group_comparison', 'tsne_3d'}


def differs(name):
    "Whether a figure has another layout with very many classes."
    return name not in SAME_LAYOUT and not {k.split('.')[0] for k in figures.info[name]['needs']} <= ALIKE


@pytest.mark.parametrize('n_classes', (5, 1000))
def test_figures_can_be_read_and_change_nothing_else(n_classes):
    made, ours = made_results(n_classes), plt.figure()
    there = plt.get_fignums()
    style, random, bad = dict(mpl.rcParams), np.random.get_state()[1].copy(), {}
    for name in figures if n_classes == 5 else filter(differs, figures):
        info = figures.info[name]
        fig = Figure(figsize=info['figsize'], layout='constrained')
        ax = fig.add_subplot(projection=info['projection'])
        assert figures[name](results_for(name, *made), ax=ax) is ax, name
        assert dict(mpl.rcParams) == style, name
        assert plt.get_fignums() == there and plt.gcf() is ours, name
        if found := faults(fig, info['projection'] is None): bad[name] = found[:4]
    assert bad == {}
    assert (np.random.get_state()[1] == random).all()
    plt.close(ours)


def test_figures_have_the_width_of_a_journal_and_a_description():
    for name in figures:
        assert figures.info[name]['figsize'][0] in PRINT_WIDTH.values(), name
        assert re.fullmatch(r'[A-Z].+\.', describe_figure(name)), name


# The contract of functions that draw

SEVERAL = {  # draw several panels, and take `axs`
    'evaluation.generated.plot_beside', 'explain.plots.show_perturbed', 'explain.pointing.show_pointing',
    'models.cbam.show_attention', 'io.defects.show'}
FASTAI = {'show_batch', 'show_results', 'draw_samples', 'draw_guesses', 'draw_top_losses'}  # take `ctxs`, as fastai does
PYPLOT = {'show', 'close', 'gca', 'gcf', 'sca', 'ion', 'ioff'}


def drawing_functions():
    "Every public function or patched method that draws: where it is, and its tree."
    root = Path(lt_signals.__file__).parent
    for path in sorted(root.rglob('*.py')):
        if path.parts[len(root.parts)] in ('synth', 'apps') or path.name in ('_modidx.py', 'testing.py'): continue  # draw numbers; widgets
        tree = ast.parse(path.read_text())
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for f in functions:
            if not re.fullmatch(r'(plot|show)(_\w+)?|draw_\w+', f.name): continue
            if f.name in ('draw_figures', 'draw_grid'): continue  # files, empty axes
            yield '.'.join(path.relative_to(root).with_suffix('').parts) + '.' + f.name, f


def test_functions_that_draw_take_axes_and_return_them():
    found = dict(drawing_functions())
    assert len(found) > 40 and SEVERAL <= {*found}
    for name, f in found.items():
        if f.name.startswith('draw_') and getattr(f.returns, 'id', '') == 'Figure': continue  # makes a whole figure, and says so
        args = {a.arg for a in (*f.args.args, *f.args.kwonlyargs)}
        want = 'ctxs' if f.name in FASTAI or f.name == 'plot_top_losses' else 'ctx' if name.startswith('io.types.') and f.name == 'show' \
            else 'axs' if name in SEVERAL else 'ax'
        assert want in args or f.args.kwarg and want == 'ctxs', f'{name} takes no `{want}`'
        if want in ('ax', 'axs'): assert any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(f)), f'{name} returns nothing'


def test_functions_that_draw_leave_pyplot_alone():
    for name, f in drawing_functions():
        called = {n.func.attr for n in ast.walk(f) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
                  and isinstance(n.func.value, ast.Name) and n.func.value.id == 'plt'}
        assert not called & PYPLOT, f'{name} calls plt.{called & PYPLOT}'
        assert 'rcParams' not in ast.dump(f), f'{name} changes the global style'
