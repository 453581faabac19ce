//! What the rules must know of an array: where its first item is, and how its items lie.

use crate::array::Array;
use crate::layout;

/// An array as far as the rules and the copies need it. An [`Array`] is one, and so is any other strided memory.
pub trait Strided {
    /// The address of the first item.
    fn first(&self) -> *mut u8;

    /// Items along each axis.
    fn shape(&self) -> &[usize];

    /// Bytes from item to item along each axis; as many as there are lengths.
    fn strides(&self) -> &[isize];

    /// Bytes of an item.
    fn itemsize(&self) -> usize;

    /// Whether the items follow each other in C order.
    fn is_c(&self) -> bool;

    /// Whether the items follow each other in Fortran order.
    fn is_f(&self) -> bool;

    /// How many items there are.
    #[inline]
    fn size(&self) -> usize {
        self.shape().iter().product()
    }

    /// The first byte that the array reaches, and the first beyond; equal when it has no items. None for what no
    /// address space has room for.
    #[inline]
    fn span(&self) -> Option<(usize, usize)> {
        let first = self.first().addr();
        if self.is_c() {
            return Some((first, first.checked_add(self.size() * self.itemsize())?));
        }
        let (low, high) = layout::extent(self.shape(), self.strides(), self.itemsize())?;
        Some((first.checked_add_signed(low)?, first.checked_add_signed(high)?))
    }
}

impl Strided for Array {
    fn first(&self) -> *mut u8 {
        self.as_ptr()
    }

    fn shape(&self) -> &[usize] {
        Array::shape(self)
    }

    fn strides(&self) -> &[isize] {
        Array::strides(self)
    }

    fn itemsize(&self) -> usize {
        self.element().size()
    }

    fn is_c(&self) -> bool {
        self.layout().is_contiguous(self.element().size())
    }

    fn is_f(&self) -> bool {
        let axes: Vec<usize> = (0..self.ndim()).rev().collect();
        self.layout().transposed(&axes).is_ok_and(|turned| turned.is_contiguous(self.element().size()))
    }
}

impl<S: Strided> Strided for &S {
    fn first(&self) -> *mut u8 {
        (**self).first()
    }

    fn shape(&self) -> &[usize] {
        (**self).shape()
    }

    fn strides(&self) -> &[isize] {
        (**self).strides()
    }

    fn itemsize(&self) -> usize {
        (**self).itemsize()
    }

    fn is_c(&self) -> bool {
        (**self).is_c()
    }

    fn is_f(&self) -> bool {
        (**self).is_f()
    }
}
