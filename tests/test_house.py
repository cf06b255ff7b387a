"""The structure of the package, beside what import-linter checks (pyproject.toml, `lint-imports`).

No module takes a private name of another, nothing but `Registry` imports modules by name, registries name no module of a room
above their own, a module of more than 450 lines says in its docstring why it is long, and every name that is used is there
(in a module by an exported cell, in a notebook by any), every import used.
"""
import ast
import builtins
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

import lt_signals

try: import tomllib
except ImportError: import tomli as tomllib  # Python 3.10

ROOT = Path(lt_signals.__file__).parent
FILES = {'.'.join(p.relative_to(ROOT.parent).with_suffix('').parts): p for p in sorted(ROOT.rglob('*.py'))
         if p.name not in ('__init__.py', '_modidx.py')}
TEXTS = {name: p.read_text() for name, p in FILES.items()}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}
LAYERS = next(c['layers'] for c in tomllib.loads((ROOT.parent/'pyproject.toml').read_text())['tool']['importlinter']['contracts']
              if c['type'] == 'layers') if (ROOT.parent/'pyproject.toml').exists() else []


def imported(name, tree):
    "(module, name) of every `from … import …` of this package."
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom): continue
        base = name.split('.')[:-node.level] if node.level else []
        module = '.'.join(base + ([node.module] if node.module else []))
        if module.startswith('lt_signals'): yield from ((module, a.name) for a in node.names)


def test_no_private_name_of_another_module():
    taken = {f'{name} takes {m}.{n}' for name in FILES for m, n in imported(name, TREES[name]) if n.startswith('_') and n != '__version__'}
    assert taken == set()


def test_only_the_registry_imports_by_name():
    called = lambda n: getattr(n.func, 'id', getattr(n.func, 'attr', '')) if isinstance(n, ast.Call) else ''
    by_name = {name for name in FILES for n in ast.walk(TREES[name]) if called(n) in ('import_module', '__import__')}
    assert by_name <= {'lt_signals.core.registry'}


def test_a_long_module_says_why():
    long = {name: text.count('\n') for name, text in TEXTS.items() if text.count('\n') > 450
            and not re.search('long because', ast.get_docstring(TREES[name]) or '', re.I)}
    assert long == {}


@pytest.mark.skipif(not LAYERS, reason='the order of the rooms is in pyproject.toml, which an installed package does not have')
def test_registries_name_no_module_of_a_room_above():
    room = lambda m: '.'.join(m.split('.')[:2])
    up = {f'{name} names {m}' for name, text in TEXTS.items() if room(name) in LAYERS for m in re.findall(r"'(lt_signals\.\w+)\.", text)
          if m in LAYERS and LAYERS.index(m) < LAYERS.index(room(name))}
    assert up == set()

NOTEBOOKS = sorted(p for p in (ROOT.parent/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)


def test_names_are_there_and_used():
    messages = pytest.importorskip('pyflakes.messages', reason='pyflakes is not installed (pip install pyflakes)')
    from pyflakes.checker import Checker
    kinds = messages.UndefinedName, messages.UnusedImport, messages.UnusedVariable
    meant = {'lt_signals.all', 'lt_signals.runs.tracking'}  # offers names; imports callbacks for what the import does
    found = [str(m) for name, tree in TREES.items() if name not in meant
             for m in Checker(tree, FILES[name]).messages if isinstance(m, kinds)]
    assert found == []


@pytest.mark.skipif(not NOTEBOOKS, reason='an installed package has no notebooks')
def test_names_in_notebooks_are_there():
    messages = pytest.importorskip('pyflakes.messages', reason='pyflakes is not installed (pip install pyflakes)')
    from pyflakes.checker import Checker
    missing = []
    for path in NOTEBOOKS:
        cells = [''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
        lines = (line for cell in cells if not cell.startswith('%%') for line in cell.split('\n'))
        text = '\n'.join(re.sub(r'^(\s*)[%!].*', r'\1pass', line) for line in lines)
        for m in Checker(ast.parse(text), path).messages:
            if isinstance(m, messages.UndefinedName): offered = ['display', *dir(builtins)]
            elif isinstance(m, messages.ImportStarUsage):
                offered = [n for module in m.message_args[1].split(', ') for n in dir(import_module(module))]
            else: continue
            if m.message_args[0] not in offered: missing.append(f'{path}: {m.message_args[0]}')
    assert missing == []
