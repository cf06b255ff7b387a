"""Every table and figure of the pages that are made rather than written, again: nothing is trained.

Executes nbs/benchmarks/*.ipynb, and nbs/reference/*.ipynb with the fields, registries and commands there are, and stores what they show; a page of benchmarks reads its file of rows (`lt_signals.core.rows`) and types no number by hand. Of other
notebooks that read rows, the cells that do are executed alone, after the imports. With --check nothing is written, and every cell whose stored text or table
is not what the rows give is named. Run:
  python benchmarks/pages.py [longtail openset ...]      or: make pages
  python benchmarks/pages.py --check [longtail ...]
"""
import argparse, ast, base64, io, os, sys, warnings
from functools import partial
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.simplefilter('ignore')
os.environ['MPLBACKEND'] = 'module://matplotlib_inline.backend_inline'
import matplotlib.pyplot as plt
from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.clean import clean_nb, process_write
from PIL import Image

NBS = Path(__file__).resolve().parents[1]/'nbs'
PAGES = NBS/'benchmarks'
REFERENCE = NBS/'reference'
TEXTS = 'text/html', 'text/markdown', 'text/plain'


def only_imports(cell):
    "Whether a cell has imports, and nothing else."
    try: body = ast.parse(cell.source).body
    except SyntaxError: return False
    return bool(body) and all(isinstance(s, (ast.Import, ast.ImportFrom)) for s in body)


def passed_over(page):
    "Which cells of a notebook are not executed: where it is no page that is made, all but imports and those that read rows."
    def f(cell):
        if cell.cell_type != 'code' or '#| eval: false' in cell.source: return True
        return page.parent not in (PAGES, REFERENCE) and not only_imports(cell) and 'read_rows(' not in cell.source
    return f


def executed(page):
    "A page with the outputs of now."
    nb, here = read_nb(page), Path.cwd()
    os.chdir(page.parent)
    try: CaptureShell(path=str(page.parent)).run_all(nb, exc_stop=True, preproc=passed_over(page))
    finally:
        plt.close('all')
        os.chdir(here)
    return nb


def joined(text): return ''.join(text) if isinstance(text, (list, tuple)) else text


def shown(cell):
    "What a cell shows, as text: what it printed, and its tables; figures are left out."
    res = []
    for o in cell.get('outputs', ()):
        data = o.get('data', {})
        if o['output_type'] == 'stream': res.append(joined(o['text']))
        elif 'image/png' not in data: res += [joined(data[k]) for k in TEXTS if k in data][:1]
    return ''.join(res).strip()


def differing(page):
    "Cells whose stored text is not what the rows give: (number, stored, now)."
    stored, now = read_nb(page), executed(page)
    return [(i, a, b) for i, (a, b) in enumerate(zip(map(shown, stored.cells), map(shown, now.cells))) if a != b]


def small(png, colours=64):
    "A figure in few colours: a fraction of the bytes, the same to the eye."
    image, out = Image.open(io.BytesIO(base64.b64decode(joined(png)))).convert('RGB'), io.BytesIO()
    image.quantize(colours).save(out, 'PNG', optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def store(page):
    "Execute a page and store what it shows."
    nb, left = executed(page), passed_over(page)
    for cell in nb.cells:
        for o in () if left(cell) else cell.outputs:
            if 'image/png' in o.get('data', {}): o['data']['image/png'], o['metadata'] = small(o['data']['image/png']), {}
    write_nb(nb, page)
    process_write(warn_msg='clean', proc_nb=partial(clean_nb, clear_all=False), f_in=page)


def chosen(names):
    "Pages of these names; all of them without any."
    pages = [*sorted(PAGES.glob('[0-9]*.ipynb')), *sorted(REFERENCE.glob('[0-9]*.ipynb'))]
    pages += [p for p in sorted(NBS.glob('*/[0-9]*.ipynb')) if p.parent not in (PAGES, REFERENCE) and "read_rows('../../benchmarks/" in p.read_text()]
    known = {p.stem[3:] if p.parent in (PAGES, REFERENCE) else f'{p.parent.name}/{p.stem[3:]}': p for p in pages}
    if bad := [n for n in names if n not in known]: sys.exit(f'no page {bad[0]!r}; choose of {", ".join(known)}')
    return [known[n] for n in names] or pages


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', help='pages by name, e.g. longtail; all when left out')
    p.add_argument('--check', action='store_true', help='write nothing; say what differs')
    args, wrong = p.parse_args(), 0
    for page in chosen(args.names):
        if not args.check:
            store(page)
            print(page.relative_to(NBS), flush=True)
            continue
        found = differing(page)
        wrong += len(found)
        print(f'{page.relative_to(NBS)}: ' + (f'cells {", ".join(str(i) for i, *_ in found)} differ' if found else 'as it is now'), flush=True)
    sys.exit(bool(wrong))


if __name__ == '__main__': main()
