"""The package as values: digests, manifest, ladder, segments, archives, graphs, the layout on disk, and their verification."""
