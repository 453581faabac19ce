//! What the rules must know of an array: where its first item is, and how its items lie.

use crate::array::Array;
use crate::layout;

/// An array as far as the rules and the copies need it; borrowed from whatever it is.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The address of the first item.
    pub first: *mut u8,
    /// Items along each axis.
    pub shape: &'a [usize],
    /// Bytes from item to item along each axis; as many as there are lengths.
    pub strides: &'a [isize],
    /// Bytes of an item.
    pub itemsize: usize,
    /// Whether the items follow each other in C order.
    pub is_c: bool,
    /// Whether the items follow each other in Fortran order.
    pub is_f: bool,
}

/// What the rules and the copies can work with. An [`Array`] is, and so is any other strided memory.
pub trait Strided {
    /// Where it is, and how it lies.
    fn as_view(&self) -> View<'_>;

    /// Items along each axis.
    #[inline]
    fn shape(&self) -> &[usize] {
        self.as_view().shape
    }

    /// Bytes from item to item along each axis.
    #[inline]
    fn strides(&self) -> &[isize] {
        self.as_view().strides
    }

    /// Whether the items follow each other in C order.
    #[inline]
    fn is_c(&self) -> bool {
        self.as_view().is_c
    }

    /// Whether the items follow each other in Fortran order.
    #[inline]
    fn is_f(&self) -> bool {
        self.as_view().is_f
    }

    /// How many items there are.
    #[inline]
    fn size(&self) -> usize {
        self.shape().iter().product()
    }

    /// The first byte that the array reaches, and the first beyond; equal when it has no items. None for what no
    /// address space has room for.
    #[inline]
    fn span(&self) -> Option<(usize, usize)> {
        let View { first, shape, strides, itemsize, is_c, .. } = self.as_view();
        let first = first.addr();
        if is_c {
            return Some((first, first.checked_add(self.size() * itemsize)?));
        }
        let (low, high) = layout::extent(shape, strides, itemsize)?;
        Some((first.checked_add_signed(low)?, first.checked_add_signed(high)?))
    }
}

impl Strided for Array {
    fn as_view(&self) -> View<'_> {
        let (layout, itemsize) = (self.layout(), self.element().size());
        View {
            first: self.as_ptr(),
            shape: layout.shape(),
            strides: layout.strides(),
            itemsize,
            is_c: layout.is_contiguous(itemsize),
            is_f: layout.is_fortran(itemsize),
        }
    }
}

impl<S: Strided> Strided for &S {
    #[inline]
    fn as_view(&self) -> View<'_> {
        (**self).as_view()
    }
}
