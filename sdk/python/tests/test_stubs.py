"""What the type stubs say is what there is."""

import ast
import pathlib
import unittest

import nexusflow
from nexusflow import _native


def public(names) -> set[str]:
    plain = {"__len__", "__bytes__", "__iter__", "__next__", "__aiter__", "__enter__", "__exit__", "__setitem__"}
    return {name for name in names if not name.startswith("_") or name in plain}


class Stubs(unittest.TestCase):
    def test_they_name_what_there_is(self):
        stub = ast.parse(pathlib.Path(_native.__file__).with_name("_native.pyi").read_text())
        classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
        self.assertEqual(set(classes), public(dir(_native)))
        self.assertEqual(set(classes), public(nexusflow.__all__))
        for name, node in classes.items():
            found = getattr(_native, name)
            if not issubclass(found, Exception):
                told = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
                self.assertEqual(public(told), public(vars(found)), name)
            else:
                bases = {getattr(base, "id", None) for base in node.bases}
                self.assertEqual(bases, {base.__name__ for base in found.__bases__}, name)


if __name__ == "__main__":
    unittest.main()
