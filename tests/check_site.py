"""Whether a built documentation site answers: python tests/check_site.py _docs

Reports internal links that lead nowhere, links within links or left as Markdown, signatures with links in them, images without
alternative text, and fields of the configuration, entries of registries and commands that no page of the reference shows.
"""
import re
import sys
from configparser import ConfigParser
from functools import cached_property
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

ROOT = Path(__file__).parents[1]
LEFT = re.compile(r'\]\((?:https?:|\.\./|[\w/]+\.html)')       # a link of Markdown that did not become one
SIGNATURE = re.compile(r'\s*(async )?(def|class) \w')


class Page(HTMLParser):
    "Links, anchors, images and texts of one page."
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.nested, self.mute = set(), set(), [], []
        self.texts, self.blocks, self.code, self.inside = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.links |= {v for k, v in a.items() if k in ('href', 'src') and v and tag in ('a', 'img', 'link', 'script')}
        self.anchors |= {v for k, v in a.items() if k in ('id', 'name') and v}
        if tag == 'img' and not (a.get('alt') or '').strip(): self.mute.append((a.get('src') or '')[:60])
        if tag == 'a' and 'a' in self.inside: self.nested.append(a.get('href', ''))
        if tag in ('pre', 'code') and 'pre' not in self.inside: self.blocks.append('')
        if tag in ('a', 'pre', 'code', 'script', 'style'): self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.inside: self.inside = self.inside[:len(self.inside) - 1 - self.inside[::-1].index(tag)]
        if tag == 'code' and 'pre' not in self.inside and self.blocks: self.code.add(self.blocks[-1])

    def handle_data(self, data):
        if {'script', 'style'} & {*self.inside}: return
        if {'pre', 'code'} & {*self.inside}: self.blocks[-1] += data
        else: self.texts.append(data)

    @cached_property
    def left(self): return LEFT.findall(''.join(self.texts))

    @cached_property
    def signatures(self): return [b for b in self.blocks if SIGNATURE.match(b) and re.search(r'\]\(https?:', b)]


def broken(site, base, pages):
    "Pairs (page, link) that lead nowhere; `base` is the site's own address."
    for page, content in pages.items():
        for link in sorted(content.links):
            url, anchor = urldefrag(link)
            if url.startswith(base): target = site/unquote(url[len(base):]).lstrip('/')
            elif urlparse(url).scheme or url.startswith('//'): continue
            elif url.startswith('/'): target = site/unquote(url).lstrip('/')
            else: target = page.parent/unquote(urlparse(url).path) if url else page
            if target.is_dir(): target = target/'index.html'
            target = Path(*target.parts).resolve()
            if not target.exists(): yield page, link
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors: yield page, link


def fields():
    "Every field that a run of any task, with any stage, may be given."
    from lt_signals.core.config import describe_config
    from lt_signals.tasks.config import make_run_config
    from lt_signals.tasks.task import tasks
    from lt_signals.training.stages import stages
    names = {n for t in tasks for n, *_ in describe_config(make_run_config(task=t))}
    return names | {n for s in stages for n, *_ in describe_config(make_run_config(task='emitter', stages=[s]))}


def entries():
    "Every entry of every registry of the library."
    found = set()
    for file in sorted((ROOT/'lt_signals').rglob('*.py')):
        module = '.'.join(file.relative_to(ROOT).with_suffix('').parts)
        for name in re.findall(r'(?m)^(\w+) = Registry\(', file.read_text(encoding='utf-8')):
            found |= {*map(str, getattr(import_module(module), name))}
    return found


def commands(cfg): return {line.partition('=')[0].strip() for line in cfg['DEFAULT']['console_scripts'].split('\n')}


def not_shown(site, pages, cfg):
    "Pairs (page of the reference, name that it lacks)."
    for page, names in dict(fields=fields(), registries=entries(), commands=commands(cfg)).items():
        content = pages.get(site/'reference'/f'{page}.html')
        there = set() if content is None else content.code | {w for t in content.texts for w in t.split()}
        for name in sorted(names - there): yield page, name


def main(folder):
    site, cfg = Path(folder).resolve(), ConfigParser(delimiters=['='], interpolation=None)
    cfg.read(ROOT/'settings.ini')
    base = cfg['DEFAULT']['doc_host'] + cfg['DEFAULT']['doc_baseurl']
    pages = {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}
    of = lambda what: [(p.relative_to(site), x) for p, c in pages.items() for x in what(c)]
    found = {'broken internal links': [(p.relative_to(site), x) for p, x in broken(site, base, pages)],
             'links within links, or left as text': of(lambda c: c.nested + c.left),
             'signatures with links': of(lambda c: [' '.join(b.split())[:90] for b in c.signatures]),
             'images without alternative text': of(lambda c: c.mute),
             'fields, entries and commands without a row': list(not_shown(site, pages, cfg))}
    for what, rows in found.items():
        for page, thing in rows: print(f'{page}: {thing} ({what})')
    for what, rows in found.items(): print(f'{len(rows)} {what}')
    print(f'{len(pages)} pages')
    return 1 if not pages or any(found.values()) else 0


if __name__ == '__main__': sys.exit(main(sys.argv[1]))
