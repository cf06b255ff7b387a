"""Other receivers, other days: held-out values of columns, from the command line to the split record, and what helps against them."""
import json

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback

from lt_signals.core.errors import ConfigError
from lt_signals.core.files import shared_data
from lt_signals.core.random import setup_seed
from lt_signals.data.calibration import calibrated, measure_front_end
from lt_signals.data.confounding import confounding
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.targets import ColumnTarget
from lt_signals.evaluation.predictions import predict
from lt_signals.io.readers import open_signals
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.results import load_run
from lt_signals.synth.emitters import synth_emitters
from lt_signals.synth.receivers import DaySpread, ReceiverSpread
from lt_signals.tasks.config import make_run_config
from lt_signals.testing import check_stage, check_transform
from lt_signals.training.adversarial import Adversarial, DomainAdversary
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner


def heard(n=24, **more): return synth_emitters(5, counts=[n]*5, n_valid=8, n_test=8, **{'receivers': 4, 'seed': 3, **more})


def learner():
    "A learner on emitters that four receivers heard, the same each time; receiver 3 is held out."
    setup_seed(0)
    dls = build_dataloaders(heard(), hold_out={'receiver': [3]}, batch_size=16, augment=['PhaseRotation'], seed=1, device='cpu')
    return classifier_learner(dls, 'ResNet1D', depth=2, width=8)


def test_nothing_changes_without_receivers_and_days():
    plain = synth_emitters(5, counts=[24]*5, n_valid=8, n_test=8, seed=3)
    assert not {'receiver', 'day'} & {*plain.meta}
    ideal = dict(receiver_spread=ReceiverSpread(cutoff=(50., 0.), noise_db=(0., 0.), ripple_db=(0., 0.)).scaled(0),
                 day_spread=DaySpread(echo_db=(-200., 0.)).scaled(0))
    same = heard(days=2, **ideal)
    assert (plain.meta.message == same.meta.message).all() and np.allclose(plain.meta.snr_db, same.meta.snr_db)
    assert torch.allclose(plain.take(range(160)), same.take(range(160)), atol=1e-3)
    assert (plain.take(range(160)) - heard().take(range(160))).abs().mean() > .05


def test_a_message_is_the_same_whatever_else_is_made():
    many, few = heard(days=3), heard(n=4, days=3, batch_size=7)
    a, b = (np.flatnonzero((s.meta.part == 'test').to_numpy() & (s.labels == 2)) for s in (many, few))
    assert torch.allclose(many.take(a), few.take(b), atol=1e-4)
    assert many.meta[['receiver', 'day']].iloc[a].to_numpy().tolist() == few.meta[['receiver', 'day']].iloc[b].to_numpy().tolist()


def configured(tmp_path, **more):
    "A short run on emitters that three receivers heard on two days."
    return make_run_config({'synth.n_classes': 4, 'synth.n_max': 24, 'synth.imbalance_ratio': 2, 'synth.n_valid': 6, 'synth.n_test': 12,
                            'synth.receivers': 3, 'synth.days': 2, 'training.epochs': 1, 'data.batch_size': 16, 'model.name': 'ResNet1D',
                            'model.options': {'depth': 2, 'width': 8}, 'visualization.enabled': False, 'out_dir': str(tmp_path),
                            'progress': False, 'device': 'cpu', 'exp_name': 'run'}, more)


def test_a_run_holds_values_out_and_says_what_is_confounded(tmp_path):
    run = run_experiment(configured(tmp_path, **{'stages': ['adversarial'], 'data.hold_out': {'receiver': [2], 'day': 1},
                                                 'data.augment': ['PhaseRotation', 'RandomReceiver'], 'adversarial.unlabelled': True}))
    res = load_run(run.path)
    assert res['stages'][-1]['rows']['test']['overall'] is not None
    record = json.loads(json.dumps(res))['split_record']
    assert record['hold_out'] == {'receiver': ['2'], 'day': ['1']}
    assert set(record['confounding']) == {'receiver', 'day'} and record['confounding']['receiver']['only_held'] == []
    assert record['parts']['test']['n'] == 4*2 # of 12 messages, those of one receiver on one day


@pytest.mark.parametrize('given,said', [({'data.hold_out': {'receiver': 7}}, 'no sample has receiver 7'),
                                        ({'data.hold_out': {'place': 1}}, 'is no column of `meta`'),
                                        ({'stages': ['adversarial'], 'adversarial.column': 'place'}, 'is no column of `meta`')])
def test_what_cannot_be_held_out_is_told(tmp_path, given, said):
    with pytest.raises(ConfigError, match=said): run_experiment(configured(tmp_path, **given))


def test_contracts():
    check_transform('RandomReceiver')
    check_stage('adversarial', learner, epochs=1)
    check_stage('adversarial', learner, epochs=1, unlabelled=True)


class Stop(Callback):
    "End the work at the beginning of an epoch."
    def __init__(self, at): self.at = at
    def before_epoch(self):
        self.at -= 1
        if self.at < 0: raise KeyboardInterrupt


def test_a_stopped_adversary_ends_as_one_that_was_not(tmp_path):
    stage = lambda: [Adversarial(epochs=2, monitor='train_loss', unlabelled=True)]
    whole, stopped, resumed = learner(), learner(), learner()
    for o in (whole, stopped, resumed): o.remove_cbs([c for c in o.cbs if type(c).__name__ == 'ProgressCallback'])
    with whole.no_logging(): fit_stages(whole, stage(), tmp_path/'whole')
    with pytest.raises(KeyboardInterrupt), stopped.no_logging(): fit_stages(stopped, stage(), tmp_path/'run', cbs=[Stop(1)])
    with resumed.no_logging(): fit_stages(resumed, stage(), tmp_path/'run', resume=True)
    a, b = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_critic_sees_the_domain_and_the_loss_does_not():
    class Note(Callback):
        "Keep what a batch is after the adversary has looked at it."
        order, run_valid = DomainAdversary.order + .1, False
        def before_batch(self): self.seen = len(self.xb), len(self.yb), len(self.x), len(self.y)
        def after_pred(self): self.shown = len(self.pred)
    learn, note = learner(), Note()
    with learn.no_bar(), learn.no_logging():
        fit_stages(learn, [Adversarial(epochs=1, unlabelled=True)], cbs=[note])
    assert note.seen == (1, 1, 32, 16) and note.shown == 16
    domain = ColumnTarget.of(learn.dls.store, 'receiver')
    assert domain.classes == ['0', '1', '2', '3'] and not set(domain(learn.dls.store, learn.dls.split.test)) - {3}


def test_calibrated_receivers_look_alike():
    store = heard(60)
    alike = calibrated(store, rows=np.flatnonzero(store.meta.part != 'test'))
    def spread(s):
        seen = [measure_front_end(s.take(np.flatnonzero(s.meta.receiver == r))) for r in range(4)]
        return torch.stack([o.carrier for o in seen]).std(), torch.stack([o.image for o in seen]).abs().mean()
    for before, after in zip(spread(store), spread(alike)): assert after < .4*before


def test_sessions_of_real_recordings_tell_the_class():
    root = shared_data('rtl433')
    if root is None: pytest.skip('the recordings are not at hand')
    store = open_signals(root, sample_rate=250e3, window=4096, hop=4096, range_db=5, max_windows_per_capture=2)
    told = confounding(store, 'group')
    assert told.cramers_v > .9 and told.at_one_value
    assert told.information > .9*told.class_entropy


@pytest.mark.slow
def test_an_unseen_receiver_costs_and_calibration_helps():
    def accuracy(store):
        setup_seed(0)
        dls = build_dataloaders(store, hold_out={'receiver': [0]}, batch_size=32, seed=1, device='cpu')
        learn = classifier_learner(dls, 'ConvNetADSB')
        with learn.no_bar(), learn.no_logging(): fit_stages(learn, [stage], seed=1)
        seen = np.flatnonzero((store.meta.part == 'test') & (store.meta.receiver != 0))
        right = lambda dl: (lambda p: (p.labels == p.targets).float().mean().item())(predict(learn, dl))
        return right(dls.test), right(dls.test.new(store.subset(seen)))
    stage = Stage1(epochs=12)
    store = synth_emitters(8, counts=[64]*8, n_valid=8, n_test=40, receivers=4, seed=0)
    unseen, seen = accuracy(store)
    helped, _ = accuracy(calibrated(store, rows=np.flatnonzero(store.meta.part != 'test'), reference=[1, 2, 3]))
    assert seen > unseen + .1 and helped > unseen
