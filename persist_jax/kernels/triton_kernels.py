"""Triton kernels for NVIDIA GPUs: correlations, Boruvka's rounds over a dense matrix, and the
bounds and looks of the matrix-free search.

In the dense kernels, lanes are the last axis of the grid, so `vmap` adds programs but no launches.
In memory, each lane's data follow the previous lane's. A lane has `N` vertices and `B` examples. An
edge is one 64-bit number: the key of its distance in the upper 32 bits, its lower and its higher
vertex in 16 bits each. Edges are ordered like these numbers, and the first edge is the least.
"""

# Triton reads a function's source, which the wrapper of a type checker would hide.
from typing import no_type_check

import triton
import triton.language as tl

# Above the key of every distance.
NO_KEY = tl.constexpr(2147483647)
_NAN_KEY = tl.constexpr(2147483646)
# Both of its halves are `NO_KEY`.
_NO_EDGE = tl.constexpr(9223372034707292159)


@triton.jit
@no_type_check
def _keys(entries, NOT_NEGATIVE: tl.constexpr):
    """Integers in the order of the distances, with -0 equal to 0 and NaN above infinity."""
    bits = entries.to(tl.int32, bitcast=True)
    if NOT_NEGATIVE:
        # A NaN from a GPU's arithmetic has all bits set except the sign bit.
        keys = tl.minimum(bits, _NAN_KEY)
    else:
        keys = tl.where(bits < 0, (bits ^ 0x7FFFFFFF) + 1, bits)
        keys = tl.where(entries != entries, _NAN_KEY, keys)
    return keys


@triton.jit
@no_type_check
def _edges(keys, one, other):
    """64-bit numbers in the order of the edges: (distance, lower vertex, higher vertex)."""
    ends = (tl.minimum(one, other) << 16) | tl.maximum(one, other)
    return (keys.to(tl.int64) << 32) | ends.to(tl.int64)


@triton.jit
@no_type_check
def _wide(pointer):
    """The same memory as 64-bit integers, which JAX has only if they are enabled."""
    return pointer.to(tl.pointer_type(tl.int64))


@triton.jit
@no_type_check
def nearest_of_all(
    matrix_ptr, found_ptr, nan_ptr, N: tl.constexpr, R: tl.constexpr, W: tl.constexpr
):
    """The first edge of every row, and whether the row has a NaN; the diagonal is not read."""
    lane = tl.program_id(1).to(tl.int64)
    matrix_ptr += lane * N * N
    row = tl.program_id(0) * R + tl.arange(0, R)
    least = tl.full((R, W), NO_KEY, tl.int32)
    first = tl.full((R, W), 0, tl.int32)
    nan = tl.full((R, W), 0, tl.int32)
    for start in range(0, N, W):
        column = start + tl.arange(0, W)
        wanted = (row < N)[:, None] & (column < N)[None, :] & (row[:, None] != column[None, :])
        place = row[:, None].to(tl.int64) * N + column[None, :]
        entries = tl.load(matrix_ptr + place, mask=wanted, other=0.0)
        keys = tl.where(wanted, _keys(entries, False), NO_KEY)
        nan = nan | (keys == _NAN_KEY).to(tl.int32)
        better = keys < least
        least = tl.where(better, keys, least)
        first = tl.where(better, column[None, :], first)
    found = _first_edges(least, row, first, 1)
    tl.store(_wide(found_ptr) + lane * N + row, found, mask=row < N)
    tl.store(nan_ptr + lane * N + row, tl.max(nan, 1), mask=row < N)


@triton.jit
@no_type_check
def nearest_outside(
    matrix_ptr, component_ptr, state_ptr, before_ptr, found_ptr,
    N: tl.constexpr, R: tl.constexpr, W: tl.constexpr, NOT_NEGATIVE: tl.constexpr,
):  # fmt: skip
    """The first edge of every row out of its component.

    The largest component is not searched, because the others join it. A row whose nearest vertex is
    still outside its component is not read again.
    """
    lane = tl.program_id(1).to(tl.int64)
    matrix_ptr += lane * N * N
    component_ptr += lane * N
    largest = tl.load(state_ptr + lane * 2 + 1)
    row = tl.program_id(0) * R + tl.arange(0, R)
    there = row < N
    if tl.load(state_ptr + lane * 2) == 0:
        own = tl.load(component_ptr + row, mask=there, other=0)
        found = tl.load(_wide(before_ptr) + lane * N + row, mask=there, other=_NO_EDGE)
        search = there & (own != largest)
        ends = found.to(tl.int32)
        near = tl.where((ends >> 16) == row, ends & 0xFFFF, ends >> 16)
        known = there & (found != _NO_EDGE)
        inside = tl.load(component_ptr + near, mask=known, other=0) == own
        again = search & (inside | (found == _NO_EDGE))
        found = tl.where(search, found, _NO_EDGE)
        if tl.max(again.to(tl.int32), 0) > 0:
            least = tl.full((R, W), NO_KEY, tl.int32)
            first = tl.full((R, W), 0, tl.int32)
            for start in range(0, N, W):
                column = start + tl.arange(0, W)
                wanted = again[:, None] & (column < N)[None, :]
                place = row[:, None].to(tl.int64) * N + column[None, :]
                entries = tl.load(matrix_ptr + place, mask=wanted, other=0.0)
                other = tl.load(component_ptr + column, mask=column < N, other=0)
                outside = wanted & (own[:, None] != other[None, :])
                keys = tl.where(outside, _keys(entries, NOT_NEGATIVE), NO_KEY)
                better = keys < least
                least = tl.where(better, keys, least)
                first = tl.where(better, column[None, :], first)
            found = tl.where(again, _first_edges(least, row, first, 1), found)
        tl.store(_wide(found_ptr) + lane * N + row, found, mask=there)


@triton.jit
@no_type_check
def _joined(best, component_ptr, vertex, there):
    """The root that every component joins, given the first edge out of each."""
    joins = there & (best != _NO_EDGE)
    ends = best.to(tl.int32)
    first = tl.load(component_ptr + (ends >> 16), mask=joins, other=0)
    second = tl.load(component_ptr + (ends & 0xFFFF), mask=joins, other=0)
    target = tl.where(joins, tl.where(first == vertex, second, first), vertex)
    # Two components that choose the same edge point at each other: the lower one stays a root.
    mutual = (tl.gather(target, target, 0) == vertex) & (vertex < target)
    target = tl.where(mutual, vertex, target)
    moved = joins & (target != vertex)
    changing = 1
    while changing > 0:
        further = tl.gather(target, target, 0)
        changing = tl.max((further != target).to(tl.int32), 0)
        target = further
    return target, ends, moved


@triton.jit
@no_type_check
def _keep(component, sizes_ptr, component_ptr, state_ptr, vertex, there, N: tl.constexpr):
    """Write the components, the label of the largest one, and whether it is the only one."""
    tl.store(component_ptr + vertex, component, mask=there)
    tl.store(sizes_ptr + vertex, tl.zeros_like(vertex), mask=there)
    tl.debug_barrier()
    tl.atomic_add(sizes_ptr + component, 1, mask=there, sem="relaxed")
    tl.debug_barrier()
    sizes = tl.load(sizes_ptr + vertex, mask=there, other=0, cache_modifier=".cg")
    largest = tl.max(sizes, 0)
    tl.store(state_ptr, (largest == N).to(tl.int32))
    tl.store(state_ptr + 1, tl.min(tl.where(sizes == largest, vertex, N), 0))


@triton.jit
@no_type_check
def least_of_parts(part_ptr, found_ptr, N: tl.constexpr, PARTS: tl.constexpr, R: tl.constexpr):
    """The first edge of every row, given its first edge in each part of the columns."""
    lane = tl.program_id(1).to(tl.int64)
    part_ptr = _wide(part_ptr) + lane * PARTS * N
    row = tl.program_id(0) * R + tl.arange(0, R)
    found = tl.load(part_ptr + row, mask=row < N, other=_NO_EDGE)
    for part in range(1, PARTS):
        other = tl.load(part_ptr + part * N + row, mask=row < N, other=_NO_EDGE)
        found = tl.minimum(found, other)
    tl.store(_wide(found_ptr) + lane * N + row, found, mask=row < N)


@triton.jit
@no_type_check
def first_join(
    found_ptr, component_ptr, edge_ptr, state_ptr, sizes_ptr, index_ptr,
    N: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Join vertices along their first edges."""
    lane = tl.program_id(0).to(tl.int64)
    index_ptr += lane * N
    vertex = tl.arange(0, C)
    there = vertex < N
    best = tl.load(_wide(found_ptr) + lane * N + vertex, mask=there, other=_NO_EDGE)
    tl.store(index_ptr + vertex, vertex, mask=there)
    tl.debug_barrier()
    target, ends, moved = _joined(best, index_ptr, vertex, there)
    tl.store(edge_ptr + lane * N + vertex, tl.where(moved, ends, -1), mask=there)
    _keep(
        target, sizes_ptr + lane * N, component_ptr + lane * N, state_ptr + lane * 2, vertex,
        there, N,
    )  # fmt: skip


@triton.jit
@no_type_check
def join(
    found_ptr, old_component_ptr, old_edge_ptr, old_state_ptr,
    component_ptr, edge_ptr, state_ptr, sizes_ptr, best_ptr,
    N: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Join components along the first edge out of each."""
    lane = tl.program_id(0).to(tl.int64)
    found_ptr = _wide(found_ptr) + lane * N
    best_ptr = _wide(best_ptr) + lane * N
    old_component_ptr += lane * N
    vertex = tl.arange(0, C)
    there = vertex < N
    edge = tl.load(old_edge_ptr + lane * N + vertex, mask=there, other=0)
    if tl.load(old_state_ptr + lane * 2) == 0:
        component = tl.load(old_component_ptr + vertex, mask=there, other=0)
        found = tl.load(found_ptr + vertex, mask=there, other=_NO_EDGE)
        tl.store(best_ptr + vertex, tl.full((C,), _NO_EDGE, tl.int64), mask=there)
        tl.debug_barrier()
        offers = there & (found != _NO_EDGE)
        tl.atomic_min(best_ptr + component, found, mask=offers, sem="relaxed")
        tl.debug_barrier()
        best = tl.load(best_ptr + vertex, mask=there, other=_NO_EDGE, cache_modifier=".cg")
        target, ends, moved = _joined(best, old_component_ptr, vertex, there)
        edge = tl.where(moved, ends, edge)
        component = tl.gather(target, component, 0)
        _keep(
            component, sizes_ptr + lane * N, component_ptr + lane * N, state_ptr + lane * 2,
            vertex, there, N,
        )  # fmt: skip
    else:
        tl.store(state_ptr + lane * 2, 1)
        tl.store(state_ptr + lane * 2 + 1, tl.load(old_state_ptr + lane * 2 + 1))
    tl.store(edge_ptr + lane * N + vertex, edge, mask=there)


@triton.jit
@no_type_check
def _upper_tile(k):
    """The k-th pair (i, j), i <= j, in the order (0, 0), (0, 1), (1, 1), (0, 2) ..."""
    j = ((tl.sqrt(8.0 * k + 1) - 1) / 2).to(tl.int32)
    j = tl.where((j + 1) * (j + 2) // 2 <= k, j + 1, j)
    j = tl.where(j * (j + 1) // 2 > k, j - 1, j)
    return k - j * (j + 1) // 2, j


@triton.jit
@no_type_check
def _rows(ptr, row, k, N: tl.constexpr, B: tl.constexpr):
    inside = (row < N)[:, None] & (k < B)[None, :]
    return tl.load(ptr + row[:, None] * B + k[None, :], mask=inside, other=0.0)


@triton.jit
@no_type_check
def _product(
    high_ptr, middle_ptr, low_ptr, row, column,
    N: tl.constexpr, B: tl.constexpr, T: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """The products of T rows with T rows, as precise as float32.

    A float32 is the sum of three bfloat16, its parts. Of the nine products of two numbers' parts,
    the three smallest are below the precision of float32. Tensor cores compute the other six.
    Their sums truncate, so the largest products have an accumulator of their own.
    """
    large = tl.zeros((T, T), tl.float32)
    small = tl.zeros((T, T), tl.float32)
    for start in range(0, B, K):
        k = start + tl.arange(0, K)
        high = _rows(high_ptr, row, k, N, B)
        middle = _rows(middle_ptr, row, k, N, B)
        low = _rows(low_ptr, row, k, N, B)
        other_high = tl.trans(_rows(high_ptr, column, k, N, B))
        other_middle = tl.trans(_rows(middle_ptr, column, k, N, B))
        other_low = tl.trans(_rows(low_ptr, column, k, N, B))
        large = tl.dot(high, other_high, large)
        small = tl.dot(low, other_high, small)
        small = tl.dot(high, other_low, small)
        small = tl.dot(middle, other_middle, small)
        small = tl.dot(middle, other_high, small)
        small = tl.dot(high, other_middle, small)
    return large + small


@triton.jit
@no_type_check
def _first_edges(keys, own, other, axis: tl.constexpr):
    """The first edge of every row (axis 1) or column (axis 0), from keys and other ends."""
    key = tl.min(keys, axis)
    near = tl.min(tl.where(keys == tl.expand_dims(key, axis), other, NO_KEY), axis)
    return tl.where(key == NO_KEY, _NO_EDGE, _edges(key, own, near))


@triton.jit
@no_type_check
def distances(
    high_ptr, middle_ptr, low_ptr, matrix_ptr, part_ptr,
    N: tl.constexpr, B: tl.constexpr, T: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr,
    ZERO: tl.constexpr,
):  # fmt: skip
    """`1 - |corr|` from the tiles on and above the diagonal, and the first edges in each tile.

    A distance below `ZERO` is 0.
    """
    lane = tl.program_id(1).to(tl.int64)
    rows = lane * N * B
    matrix_ptr += lane * N * N
    part_ptr = _wide(part_ptr) + lane * PARTS * N
    i, j = _upper_tile(tl.program_id(0))
    row = i * T + tl.arange(0, T)
    column = j * T + tl.arange(0, T)
    product = _product(high_ptr + rows, middle_ptr + rows, low_ptr + rows, row, column, N, B, T, K)
    gap = 1 - tl.abs(product)
    gap = tl.where(gap < ZERO, 0.0, gap)
    if i == j:
        # Entries (i, j) and (j, i) sum the parts in different orders, so copy the upper triangle.
        gap = tl.where(row[:, None] < column[None, :], gap, tl.trans(gap))
    there = (row < N)[:, None] & (column < N)[None, :]
    tl.store(matrix_ptr + row[:, None] * N + column[None, :], gap, mask=there)
    keys = tl.where(there & (row[:, None] != column[None, :]), _keys(gap, True), NO_KEY)
    tl.store(part_ptr + j * N + row, _first_edges(keys, row, column[None, :], 1), mask=row < N)
    if i != j:
        there = (column < N)[:, None] & (row < N)[None, :]
        tl.store(matrix_ptr + column[:, None] * N + row[None, :], tl.trans(gap), mask=there)
        found = _first_edges(keys, column, row[:, None], 0)
        tl.store(part_ptr + i * N + column, found, mask=column < N)


@triton.jit
@no_type_check
def signs(
    high_ptr, middle_ptr, low_ptr, sign_ptr, total_ptr,
    N: tl.constexpr, B: tl.constexpr, T: tl.constexpr, K: tl.constexpr, STRIDE: tl.constexpr,
    ZERO: tl.constexpr,
):  # fmt: skip
    """The sign of every correlation, and per tile the sum of their absolute values.

    The sign is 0 where the correlation is 0 or `1 - |corr|` is below `ZERO`. Only tiles on and
    above the diagonal are computed. A row of signs is padded with zeros to `STRIDE`.
    """
    lane = tl.program_id(1).to(tl.int64)
    rows = lane * N * B
    sign_ptr += lane * N * STRIDE
    i, j = _upper_tile(tl.program_id(0))
    row = i * T + tl.arange(0, T)
    column = j * T + tl.arange(0, T)
    product = _product(high_ptr + rows, middle_ptr + rows, low_ptr + rows, row, column, N, B, T, K)
    if i == j:
        product = tl.where(row[:, None] < column[None, :], product, tl.trans(product))
    pairs = (row < N)[:, None] & (column < N)[None, :] & (row[:, None] != column[None, :])
    product = tl.where(pairs, product, 0.0)
    size = tl.minimum(tl.abs(product), 1.0)
    twice = tl.where(i == j, 1.0, 2.0)
    place = lane * tl.num_programs(0) + tl.program_id(0)
    tl.store(total_ptr + place, twice * tl.sum(tl.sum(size, 1), 0))
    sign = tl.where(product > 0, 1.0, tl.where(product < 0, -1.0, 0.0))
    sign = tl.where(1 - size < ZERO, 0.0, sign).to(tl.bfloat16)
    there = (row < N)[:, None] & (column < STRIDE)[None, :]
    tl.store(sign_ptr + row[:, None] * STRIDE + column[None, :], sign, mask=there)
    if i != j:
        there = (column < N)[:, None] & (row < STRIDE)[None, :]
        tl.store(sign_ptr + column[:, None] * STRIDE + row[None, :], tl.trans(sign), mask=there)


@triton.jit
@no_type_check
def signed_sums(
    sign_ptr, high_ptr, middle_ptr, low_ptr, sum_ptr,
    N: tl.constexpr, B: tl.constexpr, STRIDE: tl.constexpr,
    T: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """The product of the matrix of signs with the rows; single products are exact."""
    lane = tl.program_id(1).to(tl.int64)
    sign_ptr += lane * N * STRIDE
    across = (B + W - 1) // W
    row = tl.program_id(0) // across * T + tl.arange(0, T)
    column = tl.program_id(0) % across * W + tl.arange(0, W)
    total = tl.zeros((T, W), tl.float32)
    for start in range(0, N, K):
        k = start + tl.arange(0, K)
        wanted = (row < N)[:, None] & (k < STRIDE)[None, :]
        sign = tl.load(sign_ptr + row[:, None] * STRIDE + k[None, :], mask=wanted, other=0.0)
        place = lane * N * B + k[:, None] * B + column[None, :]
        inside = (k < N)[:, None] & (column < B)[None, :]
        total = tl.dot(sign, tl.load(low_ptr + place, mask=inside, other=0.0), total)
        total = tl.dot(sign, tl.load(middle_ptr + place, mask=inside, other=0.0), total)
        total = tl.dot(sign, tl.load(high_ptr + place, mask=inside, other=0.0), total)
    place = lane * N * B + row[:, None] * B + column[None, :]
    tl.store(sum_ptr + place, total, mask=(row < N)[:, None] & (column < B)[None, :])


@triton.jit
@no_type_check
def group_bounds(
    row_ptr, row_label_ptr, row_slack_ptr, column_ptr, column_label_ptr, group_slack_ptr, _before,
    table_ptr,
    ROWS: tl.constexpr, N: tl.constexpr, B: tl.constexpr, SIZE: tl.constexpr,
    GROUPS: tl.constexpr, T: tl.constexpr, W: tl.constexpr, G: tl.constexpr, K: tl.constexpr,
    ROUNDING: tl.constexpr, SIGNED: tl.constexpr,
):  # fmt: skip
    """For each row and group of columns, a lower bound on `1 - |corr|`, own component excluded.

    If `SIGNED`, a lower bound on `1 - corr`. A program computes `T` rows and `G` groups. The table
    overwrites the previous one.

    Products are of rows rounded to bfloat16. If the rounding errors of two rows have at most norms
    s and t, their slacks, the product is off by at most 1.01 (s + t) + s t, plus `ROUNDING` for the
    sums.
    """
    row = (tl.program_id(0) * T + tl.arange(0, T)).to(tl.int64)
    groups = tl.program_id(1) * G + tl.arange(0, G)
    inside = row < ROWS
    own = tl.load(row_label_ptr + row, mask=inside, other=-1)
    table = tl.full((T, G), -2.0, tl.float32)
    for g in range(0, G):
        group = tl.program_id(1) * G + g
        largest = tl.full((T,), -2.0, tl.float32)
        for first in range(0, SIZE, W):
            column = (group * SIZE + first + tl.arange(0, W)).to(tl.int64)
            product = tl.zeros((T, W), tl.float32)
            for start in range(0, B, K):
                k = start + tl.arange(0, K)
                left = _rows(row_ptr, row, k, ROWS, B)
                right = _rows(column_ptr, column, k, N, B)
                product = tl.dot(left, tl.trans(right), product)
            label = tl.load(column_label_ptr + column, mask=column < N, other=-1)
            outside = (column < N)[None, :] & (own[:, None] != label[None, :])
            if not SIGNED:
                product = tl.abs(product)
            largest = tl.maximum(largest, tl.max(tl.where(outside, product, -2.0), 1))
        table = tl.where((groups == group)[None, :], largest[:, None], table)
    slack = tl.load(row_slack_ptr + row, mask=inside, other=0.0)[:, None]
    other = tl.load(group_slack_ptr + groups, mask=groups < GROUPS, other=0.0)[None, :]
    error = 1.01 * (slack + other) + slack * other + ROUNDING
    bound = tl.maximum(1 - table - error, 0.0)
    # Below every product, rounding included: no column is outside the row's component.
    bound = tl.where(table < -1.5, float("inf"), bound)
    place = table_ptr + row[:, None] * GROUPS + groups[None, :]
    tl.store(place, bound, mask=inside[:, None] & (groups < GROUPS)[None, :])


@triton.jit
@no_type_check
def look_at_group(
    job_rows_ptr, job_firsts_ptr, job_sizes_ptr, job_ends_ptr,
    row_ptr, row_label_ptr, column_ptr, column_label_ptr,
    old_distance_ptr, old_target_ptr, table_ptr,
    distance_ptr, target_ptr, back_ptr, left_ptr, least_ptr, next_ptr,
    N: tl.constexpr, B: tl.constexpr, SIZE: tl.constexpr, GROUPS: tl.constexpr,
    GROUPS_PADDED: tl.constexpr, R: tl.constexpr, J: tl.constexpr, K: tl.constexpr,
    C: tl.constexpr, ZERO: tl.constexpr, SIGNED: tl.constexpr,
):  # fmt: skip
    """One job: up to `R` rows look at one group and find which group to look at next.

    A look finds the nearest vertex of the group outside the row's component, and the distance of
    the second nearest. `back` and `left` are the new bounds on the groups of the old candidate and
    of this look, which the table does not hold yet; the next group is the first with the least
    bound after both updates. Products are in float32 and summed in one order, so distances are
    symmetric. Rows in no job are not written.
    """
    job = tl.program_id(0)
    number = tl.arange(0, GROUPS_PADDED)
    ends = tl.load(job_ends_ptr + number, mask=number < GROUPS, other=NO_KEY)
    group = tl.sum((ends <= job).to(tl.int32), 0)
    if group < GROUPS:
        before = tl.max(tl.where(number < group, ends, 0), 0)
        done = (job - before) * R
        place = tl.arange(0, R)
        active = place < tl.load(job_sizes_ptr + group) - done
        first_row = tl.load(job_firsts_ptr + group) + done
        row = tl.load(job_rows_ptr + first_row + place, mask=active, other=0).to(tl.int64)
        own = tl.load(row_label_ptr + row)
        nearest = tl.full((R,), float("inf"), tl.float32)
        rest = tl.full((R,), float("inf"), tl.float32)
        target = tl.full((R,), 0, tl.int32) + group * SIZE
        for first in range(0, SIZE, J):
            column = (group * SIZE + first + tl.arange(0, J)).to(tl.int64)
            product = tl.zeros((R, J), tl.float32)
            for start in range(0, B, K):
                k = start + tl.arange(0, K)
                left = _rows(row_ptr, row, k, N, B)
                right = _rows(column_ptr, column, k, N, B)
                product = tl.dot(left, tl.trans(right), product, input_precision="ieee")
            label = tl.load(column_label_ptr + column, mask=column < N, other=0)
            if not SIGNED:
                product = tl.abs(product)
            gap = 1 - product
            gap = tl.where(gap < ZERO, 0.0, gap)
            leaves = (column < N)[None, :] & (label[None, :] != own[:, None])
            gap = tl.where(leaves, gap, float("inf"))
            names = column.to(tl.int32)[None, :]
            least = tl.min(gap, 1)
            found = tl.min(tl.where(gap == least[:, None], names, NO_KEY), 1)
            next_ = tl.min(tl.where(names == found[:, None], float("inf"), gap), 1)
            better = least < nearest
            rest = tl.where(better, tl.minimum(nearest, next_), tl.minimum(rest, least))
            target = tl.where(better, found, target)
            nearest = tl.minimum(nearest, least)
        old_distance = tl.load(old_distance_ptr + row)
        old_target = tl.load(old_target_ptr + row)
        better = (nearest < old_distance) | ((nearest == old_distance) & (target < old_target))
        # Bounds exclude the row's candidate, so a replaced candidate re-enters its group's bound.
        back = tl.where(better, old_distance, float("inf"))
        left_over = tl.where(better | (target == old_target), rest, nearest)
        least = tl.full((R,), float("inf"), tl.float32)
        next_group = tl.full((R,), 0, tl.int32)
        for first in range(0, GROUPS, C):
            column = first + tl.arange(0, C)
            wanted = active[:, None] & (column < GROUPS)[None, :]
            entry = table_ptr + row[:, None] * GROUPS + column[None, :]
            bound = tl.load(entry, mask=wanted, other=float("inf"))
            given_up = column[None, :] == (old_target // SIZE)[:, None]
            bound = tl.where(given_up, tl.minimum(bound, back[:, None]), bound)
            bound = tl.where(column[None, :] == group, left_over[:, None], bound)
            best = tl.min(bound, 1)
            at = tl.min(tl.where(bound == best[:, None], column[None, :], NO_KEY), 1)
            next_group = tl.where(best < least, at, next_group)
            least = tl.minimum(least, best)
        tl.store(distance_ptr + row, tl.where(better, nearest, old_distance), mask=active)
        tl.store(target_ptr + row, tl.where(better, target, old_target), mask=active)
        tl.store(back_ptr + row, back, mask=active)
        tl.store(left_ptr + row, left_over, mask=active)
        tl.store(least_ptr + row, least, mask=active)
        tl.store(next_ptr + row, next_group, mask=active)
