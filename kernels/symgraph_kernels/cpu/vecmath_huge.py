"""A scalar call in a cold branch, in a loop that vectorizes all the same.

LLVM's loop vectorizer widens a call if the module holds a vector variant of the function (the
`vector-function-abi-variant` attribute), and turns a branch into a mask. So the slow function comes with variants
of our own that test whether any lane needs it and call it lane by lane only then.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from symgraph_kernels.cpu.vecmath_lane import I1, I32, Lane, Value, target_has


def _attribute(target: Any, text: str) -> None:
    """llvmlite knows only some attributes by name."""
    set.add(target.attributes, text)


def _variant(module: Any, name: str, scalar: Any, ty: Any, lanes: int) -> Any:
    vector, mask = ir.VectorType(ty, lanes), ir.VectorType(I1, lanes)
    fn = ir.Function(module, ir.FunctionType(vector, [vector, mask]), name=name)
    fn.linkage = "internal"
    for a in ("noinline", "nounwind", "minsize", "optsize"):
        fn.attributes.add(a)
    x, m = fn.args
    entry, slow, done = (fn.append_basic_block(n) for n in ("entry", "slow", "done"))
    b = ir.IRBuilder(entry)
    bits = ir.IntType(lanes)
    b.cbranch(b.icmp_unsigned("!=", b.bitcast(m, bits), ir.Constant(bits, 0)), slow, done)
    b.position_at_end(slow)
    index, acc = b.phi(I32), b.phi(vector)
    y = b.call(scalar, [b.extract_element(x, index)])
    following = b.insert_element(acc, y, index)
    nxt = b.add(index, ir.Constant(I32, 1))
    index.add_incoming(ir.Constant(I32, 0), entry)
    index.add_incoming(nxt, slow)
    acc.add_incoming(ir.Constant(vector, None), entry)
    acc.add_incoming(following, slow)
    b.cbranch(b.icmp_unsigned("<", nxt, ir.Constant(I32, lanes)), slow, done)
    b.position_at_end(done)
    result = b.phi(vector)
    result.add_incoming(ir.Constant(vector, None), entry)
    result.add_incoming(following, slow)
    b.ret(result)
    return fn


def _slow(f: Lane, name: str) -> Any:
    """The scalar function and its variants, once in a module."""
    module, suffix = f.b.module, "" if f.double else "f"
    symbol = f"symgraph_huge_{name}{suffix}"
    if (fn := module.globals.get(symbol)) is not None:
        return fn
    libm = module.globals.get(name + suffix) or ir.Function(
        module, ir.FunctionType(f.type, [f.type]), name=name + suffix
    )
    fn = ir.Function(module, ir.FunctionType(f.type, [f.type]), name=symbol)
    fn.linkage = "internal"
    # each variant costs every kernel some milliseconds of compile time
    widths = [w // f.bits for w in ((512, 256) if target_has("avx512f") else (256,) if target_has("avx") else (128,))]
    variants = [f"_ZGV_LLVM_M{n}v_{symbol}({symbol}_{n})" for n in widths]
    for a in ("noinline", "nounwind"):
        fn.attributes.add(a)
    for text in ("memory(none)", "willreturn", "cold", f'"vector-function-abi-variant"="{",".join(variants)}"'):
        _attribute(fn, text)
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    b.ret(b.call(libm, fn.args))
    _keep(module, [_variant(module, f"{symbol}_{n}", fn, f.type, n) for n in widths])
    return fn


def _keep(module: Any, functions: list[Any]) -> None:
    """Keep functions that nothing calls yet until the vectorizer has run."""
    byte = ir.IntType(8).as_pointer()
    pointers = [fn.bitcast(byte) for fn in functions]
    name = "llvm.compiler.used"
    array = module.globals.get(name)
    if array is None:
        array = ir.GlobalVariable(module, ir.ArrayType(byte, 0), name=name)
        array.linkage = "appending"
        array.section = "llvm.metadata"
        array.initializer = ir.Constant(array.value_type, [])
    pointers = [*array.initializer.constant, *pointers]
    array.value_type = ir.ArrayType(byte, len(pointers))
    array.type = array.value_type.as_pointer()
    array.initializer = ir.Constant(array.value_type, pointers)


def huge(f: Lane, name: str, x: Value, limit: float, result: Value) -> Value:
    """`result`, but libm's `name` of x where |x| is finite and at least `limit`."""
    b = f.b
    fn = _slow(f, name)
    rare = b.not_(f.cmp_or_nan("<", f.abs(x), limit))
    before = b.block
    slow = b.append_basic_block("huge")
    done = b.append_basic_block("small")
    b.cbranch(rare, slow, done)
    b.position_at_end(slow)
    y = b.call(fn, [x])
    b.branch(done)
    b.position_at_end(done)
    phi = b.phi(f.type)
    phi.add_incoming(result, before)
    phi.add_incoming(y, slow)
    return phi
