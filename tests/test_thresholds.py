"""Thresholds that hold: recordings that were not used to choose them are rejected about as often as was asked, in every group of classes."""
import numpy as np
import pytest
import torch

from lt_signals.evaluation.evidence import Evidence
from lt_signals.evaluation.rejection import evaluate_rejection, Rejector

COUNTS = np.array([200, 150, 60, 10, 8])


def evidence(rng, recordings, each=12, alike=.8):
    "Signals of five classes in recordings whose signals are alike; rare classes are less sure."
    y = np.repeat(np.arange(5), recordings)
    code = np.repeat(np.arange(len(y)), each)
    base = 6 - 1.2*np.arange(5)/2
    size = base[y] + alike*1.2*rng.normal(size=len(y))
    z = rng.normal(size=(len(code), 5))*.3
    z[np.arange(len(code)), y[code]] += (size[code] + (1 - alike)*rng.normal(size=len(code))).clip(1.5)
    z = torch.tensor(z).float()
    return Evidence(z, z, torch.tensor(y[code]), recording=np.array([f'r{c}' for c in code]))

def rejected(by_group=True, trials=12, recordings=(24, 20, 8, 5, 4), **options):
    "Mean share of the windows of new recordings, and of recordings, that are rejected: of all, of the head, of the tail."
    rng, res = np.random.default_rng(0), []
    for _ in range(trials):
        known, valid, test = (evidence(rng, recordings) for _ in range(3))
        r = Rejector('max_logit', by_group=by_group, **options).fit(known, valid, COUNTS)
        o = evaluate_rejection(r, test, COUNTS)
        said = o['recordings']
        res.append([said['window_share'][k] for k in ('all', 'many', 'few')] + [said['false_rejection'][k] for k in ('all', 'many', 'few')]
                   + [o['expected']['window']['all']['rate'], o['expected']['recording']['all']['rate']])
    return np.mean(res, 0)


def test_held_out_recordings():
    for units in ('class', 'none'):
        all_, many, few, whole, head, tail, said, said_whole = rejected(standardize=units)
        assert .025 <= all_ <= .08 and .02 <= whole <= .09, (units, all_, whole)
        assert abs(said - all_) < .03 and abs(said_whole - whole) < .04 # what was expected is what comes

def test_the_tail_is_spared():
    one, own = rejected(False, standardize='none'), rejected(True, standardize='none')
    assert one[2] > 2*one[1] and own[2] - own[1] < (one[2] - one[1])*.75
    fair = rejected(standardize='class')
    assert fair[2] < 2*max(fair[1], .03)

def test_few_recordings():
    rng = np.random.default_rng(1)
    known, valid = evidence(rng, (3, 2, 1, 1, 1)), evidence(rng, (3, 2, 1, 1, 1))
    o = Rejector('max_logit').fit(known, valid, COUNTS).expected['recording']
    assert o['all']['recordings'] == 8 and o['all']['high'] > .2 # it says how little is known

def test_votes(tmp_path):
    rng = np.random.default_rng(2)
    known, valid, test = (evidence(rng, (24, 20, 8, 5, 4), alike=.1) for _ in range(3))
    r = Rejector('max_logit', standardize='none').fit(known, valid, COUNTS)
    sure = torch.full((3, 5), -2.); sure[:, 0] = 0
    limits = r.vote_limit([1, 4, 12], sure)
    assert limits[0] == r.threshold == 0 and limits[2] < limits[1] < limits[0] # means scatter less

    class Nothing(torch.nn.Module):
        def __init__(self): super().__init__(); self.p = torch.nn.Parameter(torch.zeros(1))
        forward_features = forward_head = lambda self, x: x
    r.save(tmp_path/'r.safetensors', 'abcde')
    back = Rejector.load(tmp_path/'r.safetensors', Nothing())
    assert torch.equal(back.vote_limit([1, 4, 12], sure), limits) and back.expected == r.expected

def test_without_recordings():
    rng = np.random.default_rng(3)
    known, valid, test = (evidence(rng, (24, 20, 8, 5, 4)) for _ in range(3))
    for e in (known, valid, test): e.recording = None
    o = evaluate_rejection(Rejector('energy').fit(known, valid, COUNTS), test, COUNTS)
    assert o['recordings'] is None and o['expected']['window']['all']['recordings'] == len(valid)
