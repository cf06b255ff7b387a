"Report internal links of a built documentation site that lead nowhere: python tests/check_links.py _docs"
import sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse


class Page(HTMLParser):
    "The links and the anchors of one page."
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.links |= {v for k, v in a.items() if k in ('href', 'src') and v and tag in ('a', 'img', 'link', 'script')}
        self.anchors |= {v for k, v in a.items() if k in ('id', 'name') and v}


def broken(site, base):
    "Pairs (page, link) that lead nowhere; `base` is the site's own address."
    pages = {p: Page(p.read_text(encoding='utf-8')) for p in site.rglob('*.html')}
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


def main(folder):
    site, cfg = Path(folder).resolve(), ConfigParser(delimiters=['='], interpolation=None)
    cfg.read(Path(__file__).parents[1]/'settings.ini')
    found = list(broken(site, cfg['DEFAULT']['doc_host'] + cfg['DEFAULT']['doc_baseurl']))
    n = len(list(site.rglob('*.html')))
    for page, link in found: print(f'{page.relative_to(site)}: {link}')
    print(f'{n} pages, {len(found)} broken internal links')
    return 1 if found or not n else 0


if __name__ == '__main__': sys.exit(main(sys.argv[1]))
