"""fastai's own ways to ask, to explain and to keep a learner, on the learners of all tasks."""
import warnings
from functools import cache, partial

import matplotlib
import numpy as np
import pytest
import torch
from fastai.callback.mixup import CutMix, MixUp
from fastai.callback.schedule import SuggestionMethod  # noqa: F401 (teaches a Learner `lr_find`)
from fastai.interpret import ClassificationInterpretation, Interpretation
from fastai.learner import load_learner
from fastai.losses import LabelSmoothingCrossEntropy

from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.io.types import TensorIQ
from lt_signals.losses.base import losses
from lt_signals.losses.multitask import reducing
from lt_signals.synth.emitters import synth_emitters
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.synth.plate_sets import synth_plates
from lt_signals.synth.scene_crops import scene_crops
from lt_signals.synth.scenes import Scenes
from lt_signals.tasks.amc import amc_learner, grid_of
from lt_signals.tasks.crop_learner import crop_learner
from lt_signals.tasks.defects import defects_learner
from lt_signals.training.learner import classifier_learner
from lt_signals.views.finder_options import FinderOptions

matplotlib.use('Agg')
loaders = partial(build_dataloaders, batch_size=8, device='cpu', group=None, val_ratio=.25, test_ratio=.2)


def emitter():
    store = synth_emitters(3, 12, 4., n_valid=6, n_test=4, seed=0, snr_db=(20, 30))
    return classifier_learner(loaders(store), 'ConvNetADSB')


def amc():
    store = synth_modulations(['BPSK', 'QPSK', '8PSK'], [0., 10.], 6, 64, seed=0)
    return amc_learner(loaders(store, targets=grid_of(store)), depth=2, width=8)


def defects(): return defects_learner(loaders(synth_plates(32, (16, 32), seed=0)), 'resnet10_cbam')


@cache
def crops():
    finder = FinderOptions(false_alarm=3e-3, min_cells=6).finder()
    return scene_crops(Scenes(snr_db=(10, 30), seed=0), range(4), finder, 16, 1.)


def direct(): return crop_learner(loaders(crops()), 'SignalClassifier', width=4, depth=2)
def siamese(): return crop_learner(loaders(crops()), 'SiameseNet', width=4, depth=2)


@pytest.fixture(scope='module', params=[emitter, amc, defects, direct, siamese], ids=lambda f: f.__name__)
def learn(request, tmp_path_factory):
    torch.manual_seed(0)
    learn = request.param()
    learn.path = tmp_path_factory.mktemp(request.param.__name__)
    learn.remove_cb(learn.progress)
    learn.logger = lambda row: None
    learn.fit(1, 1e-3)
    return learn


def several(learn): return len(learn.dls.train.targets) > 1
def parts(o): return list(o.values()) if isinstance(o, dict) else list(o) if isinstance(o, (tuple, list)) else [o]


def test_what_a_test_set_may_be(learn, tmp_path):
    store, dls = learn.dls.store, learn.dls
    x = store.take(range(3))
    for given in (x, x.numpy(), [*x], store.subset(range(3))):
        dl = dls.test_dl(given)
        assert len(dl.indices) == 3 and torch.allclose(dl.one_batch()[0].as_subclass(torch.Tensor), x, atol=1e-6)
    assert len(dls.test_dl(x[0].numpy()).indices) == 1
    if store.sample_type is not TensorIQ: return
    np.save(tmp_path/'signals.npy', x.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert len(dls.test_dl([tmp_path/'signals.npy']).indices) == len(dls.test_dl(str(tmp_path/'signals.npy')).indices) == 3


def test_get_preds_and_predict_agree(learn):
    x, probs, ys, labels, loss = learn.get_preds(with_input=True, with_decoded=True, with_loss=True)
    n = len(learn.dls.valid.indices)
    assert {len(o) for o in (x, loss, *parts(probs), *parts(ys), *parts(labels))} == {n}
    assert len(parts(probs)) == len(parts(ys)) == len(parts(labels)) == len(learn.dls.train.targets)
    name, number, p = learn.predict(x[0])
    for a, b, i, y in zip(parts(p), parts(probs), parts(number), parts(labels)):
        assert torch.allclose(a, b[0], atol=1e-5) and torch.equal(i, y[0])
    if not several(learn) and number.ndim == 0: assert str(name) == learn.dls.vocab[int(number)]
    assert torch.equal(learn.predict(x[0], with_input=True)[0].as_subclass(torch.Tensor), x[0].as_subclass(torch.Tensor))
    shuffled, ordered = learn.get_preds(dl=learn.dls.train), learn.get_preds(ds_idx=0)
    for a, b in zip(parts(shuffled[1]), parts(ordered[1])): assert torch.equal(a, b)


def test_augmented_predictions(learn):
    plain = parts(learn.get_preds()[0])
    for a, b in zip(parts(learn.tta(n=2, beta=1.)[0]), plain): assert torch.allclose(a, b, atol=1e-5)
    for a, b in zip(parts(learn.tta(n=2, use_max=True)[0]), plain): assert (a >= b - 1e-6).all()


def test_interpretation(learn):
    told = Interpretation.from_learner(learn)
    worst, which = told.top_losses(2)
    loss = learn.get_preds(with_loss=True)[-1]
    assert torch.allclose(worst, loss[which])
    told.plot_top_losses(2)
    told.show_results([0, 1])
    learn.show_results(max_n=2)
    matplotlib.pyplot.close('all')


def test_confusion(learn):
    if several(learn) or learn.dls.store.is_multilabel: pytest.skip('one class a sample')
    told = ClassificationInterpretation.from_learner(learn)
    assert told.confusion_matrix().sum() == len(learn.dls.valid.indices)
    told.plot_confusion_matrix()
    told.plot_top_losses(2)
    matplotlib.pyplot.close('all')


def test_mixing(learn):
    learn.fit(1, 1e-4, cbs=MixUp())
    if len(learn.dls.store.sample_shape) == 3: learn.fit(1, 1e-4, cbs=CutMix())
    assert np.isfinite(learn.recorder.values[-1][0])


def test_tensorboard(learn, tmp_path):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    from fastai.callback.tensorboard import TensorBoardCallback
    learn.fit(1, 1e-4, cbs=TensorBoardCallback(tmp_path, trace_model=False, log_preds=True, n_preds=2))
    assert next(tmp_path.glob('events*')).stat().st_size > 2000 # a picture is in it


def test_export(learn):
    learn.export('learner.pkl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # fastai: such a file can run code; this one is our own
        again = load_learner(learn.path/'learner.pkl')
    x = learn.dls.store.take([0])[0]
    name, _, probs = learn.predict(x)
    same, _, found = again.predict(x)
    assert str(name) == str(same)
    for a, b in zip(parts(probs), parts(found)): assert torch.allclose(a, b, atol=1e-6)
    assert len(again.dls.train.indices) == 0


def test_lr_find(learn): assert 0 < learn.lr_find(num_it=12, show_plot=False).valley < 10


def relabelled(store):
    "The samples as somebody else has labelled them: classes in another order, one with a name of its own."
    if store.is_multilabel: return store.relabelled(store.labels[:, ::-1], ['rust', *store.classes[-2::-1]])
    return store.relabelled(len(store.classes) - 1 - store.labels, ['stranger', *store.classes[-2::-1]])


def test_store_of_other_classes(learn):
    store, n = learn.dls.store, len(learn.dls.store.classes)
    with pytest.warns(UserWarning, match='not among the .* known: (stranger|rust)'):
        dl = learn.dls.test_dl(relabelled(store))
    mine, theirs = learn.dls.train.targets[0](store, np.arange(len(store))), dl.labels
    if store.is_multilabel: assert (theirs[:, :n-1] == mine[:, :n-1]).all() and (theirs[:, n-1] == 0).all()
    else:
        lost = learn.dls.train.targets[0].classes.index(store.classes[-1])
        assert (theirs[mine != lost] == mine[mine != lost]).all() and (theirs[mine == lost] == -1).all()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        probs, _, loss = learn.get_preds(dl=dl, with_loss=True)
        assert {len(o) for o in (loss, *parts(probs))} == {len(store)} and loss.isfinite().all()
        if store.is_multilabel or n == 2: return
        found = learn.validate(dl=learn.dls.valid.new(relabelled(store)))
        known = np.flatnonzero(theirs >= 0)
        want = learn.validate(dl=learn.dls.valid.new(store.subset(known)))
    assert np.allclose(found, want, equal_nan=True, atol=1e-5)


def test_label_smoothing_of_fastai():
    learn = classifier_learner(emitter().dls, 'ConvNetADSB', LabelSmoothingCrossEntropy())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert len(learn.get_preds(with_loss=True, with_decoded=True)) == 4


@pytest.mark.parametrize('name', list(losses))
def test_losses_of_each_sample(name):
    info, counts = losses.info[name], [40, 9, 3]
    options = dict(info.get('example') or {})
    if 'snr' in name.lower(): options['snr_values'] = [0, 5, 10]
    multi = info.get('multilabel')
    loss = losses[name](**({} if 'snr_values' in options else dict(class_counts=counts)), **options,
                        **(dict(n_samples=60) if multi else {}))
    z = torch.randn(6, 3).clamp(-.9, .9)
    y = torch.randint(2, (6, 3)).float() if multi else torch.arange(6) % 3
    whole = loss(z, y)
    with reducing(loss, 'none'): each = loss(z, y)
    assert each.shape == (6,) and loss(z, y) == whole and bool(loss.y_int) != bool(multi)
