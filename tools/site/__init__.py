"""The course as a static site: ``make site`` builds it into ``site/``, and needs no network then.

MkDocs renders Markdown; ``mkdocs.yml`` holds its settings and ``hooks.py`` hands it the files of
this repository under the paths they have here, so that a link which works on GitHub works in the
site, and the build stops at one that does not. Notebooks become Markdown with the outputs they were
committed with: nothing is run. The front page and the navigation are read off the README.
"""
