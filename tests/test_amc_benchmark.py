"""`benchmarks/amc.py` on a toy: batches that repeat, a training that is killed and gone on with, tests of the SNR that they say."""
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

bench = Path(__file__).parents[1]/'benchmarks'
sys.path.insert(0, str(bench))
import amc
import amc_frames
from amc_frames import endless, finite, limited, SETS


def test_batches_repeat_and_never_come_again():
    batches, valid, test = endless('toy', 'field', 64, 1, 2, 16, 3, 'cpu')
    batches.per = 2
    some = [batches(k) for k in range(4)]
    again = batches(1)
    assert all(torch.equal(a, b) for a, b in zip(some[1], again))
    x = torch.cat([b[0] for b in some]).flatten(1)
    assert len(torch.unique(x, dim=0)) == len(x)
    assert len(valid.x) == 12 and len(test.x) == 24 and test.modulation.bincount().tolist() == [6]*4
    assert torch.allclose(2*valid.x.square().mean((1, 2)), torch.ones(12), atol=1e-3)


def test_a_finite_set_is_seen_once_in_a_pass():
    batches, valid, test = finite('toy', 'awgn', 64, 10, 8, 0, 'cpu')
    assert [len(p.x) for p in (batches.part, valid, test)] == [96, 12, 12]
    x = torch.cat([batches(k)[0] for k in range(12)]).flatten(1)
    assert len(torch.unique(x, dim=0)) == 96
    assert {s.item() for k in range(12) for s in batches(k)[2]} == {0, 1, 2}


def trained(file, stop=None):
    "A toy training; `stop` kills it when that many curves are there."
    args = Namespace(seed=0, minutes=None, epochs=1.5, epoch_frames=64, lr=2e-3, weight_decay=.02, keep=1e9)
    torch.manual_seed(0)
    model = amc.Amc('ConvNetADSB', 'toy', amc.TASKS, 'regression')
    batches, valid, _ = endless('toy', 'awgn', 64, 1, 1, 16, 0, 'cpu')
    batches.per = 2
    run = amc.Run(model, batches, args, file)
    seen = []
    def look():
        if stop is not None and len(seen) == stop: raise KeyboardInterrupt
        seen.append(run.step)
        if stop is not None: run.save() # as after each point of the curve
        return {}
    run.train(look)
    return run


def test_a_killed_training_ends_as_one_that_was_not(tmp_path):
    whole = trained(tmp_path/'a.pt')
    with pytest.raises(KeyboardInterrupt): trained(tmp_path/'b.pt', 2)
    rest = trained(tmp_path/'b.pt')
    assert whole.frames == rest.frames == 96 and len(whole.curve) == len(rest.curve) == 3
    for k, v in whole.model.state_dict().items(): assert torch.equal(v, rest.model.state_dict()[k]), k


def test_regression_of_the_snr_as_probabilities():
    loss = amc.GaussianSNR([0., 10., 20.])
    z = torch.tensor([[(9. - loss.centre)/loss.scale, np.log(1/loss.scale)], [(-50. - loss.centre)/loss.scale, 0.]])
    p = loss.on_grid(z).exp()
    assert torch.allclose(p.sum(1), torch.ones(2), atol=1e-5) and p.argmax(1).tolist() == [1, 0] and p[0, 1] > .99
    normal = torch.distributions.Normal(torch.tensor(9.), torch.tensor(1.))
    assert torch.allclose(loss(z[:1], torch.tensor([1])), -normal.log_prob(torch.tensor(10.)) - .5*np.log(2*np.pi) - np.log(loss.scale), atol=1e-4)


def test_the_rate_rises_and_falls():
    f = [amc.rate_at(s) for s in np.linspace(0, 1, 101)]
    assert f[0] < .1 and max(f) == 1. and f.index(1.) == 2 and f[-1] < 1e-6 and all(a >= b for a, b in zip(f[2:], f[3:]))


def test_noise_of_the_tests_has_the_density_that_is_said():
    "At equal in-band SNR, noise in a quarter of the band has a quarter of the power, for both generators."
    for source in ('own', 'foreign'):
        for share in (1., .25):
            x = limited('toy', 1024, 6, source, share, 0.).x
            p = torch.fft.fft(torch.complex(x[:, 0], x[:, 1])).abs().square().mean(0)
            f = torch.fft.fftfreq(1024).abs()
            beside, beyond = p[(f > .095) & (f < .105)].mean(), p[(f > .3) & (f < .45)].mean()
            assert (beyond/beside < .05) == (share < 1), (source, share)
            signal = p[f < .0843].mean() - beside
            assert abs(10*torch.log10(signal/beside)) < 1.5, (source, share, float(signal/beside))


def test_models_of_the_comparison_are_there():
    from lt_signals.models.base import models
    assert all(m in models for m in amc.MODELS) and set(SETS['17 digital'].classes) < set(amc_frames.rml2018_classes)
