//! What the processor can do, found at run time.
//!
//! One binary runs everywhere: each kernel is compiled for several instruction
//! sets and the best one that the processor has is called. All levels give the
//! same bits in the `f32` class, because every kernel is written with fused
//! multiply-adds in one fixed order per output element, so the width of a
//! vector register does not matter.

#[cfg(target_arch = "x86_64")]
use crate::cpu::tile;

/// Instruction sets a kernel is compiled for, each including the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whatever the target guarantees. Slow on x86-64, whose baseline has no
    /// fused multiply-add; good on 64-bit Arm, which has it.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
    /// AVX-512 with bf16 dot products.
    Avx512Bf16,
    /// All of these, and bf16 products in matrix registers (AMX).
    Amx,
}

impl Level {
    /// The best level of this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
            match (avx2, avx512, bf16, bf16 && tile::amx::is_available()) {
                (.., true) => Self::Amx,
                (_, _, true, _) => Self::Avx512Bf16,
                (_, true, ..) => Self::Avx512,
                (true, ..) => Self::Avx2,
                _ => Self::Portable,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::Portable
    }
}

/// A level that this processor has. Kernels rely on it, so nothing but
/// detection makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usable(Level);

impl Usable {
    /// The best level of this processor.
    #[cfg(test)]
    pub(crate) fn best() -> Self {
        Self(Level::detect())
    }

    /// The best level of this processor that is not above `level`.
    pub(crate) fn at_most(level: Level) -> Self {
        Self(level.min(Level::detect()))
    }

    /// The level.
    #[inline(always)]
    pub(crate) fn get(self) -> Level {
        self.0
    }
}

/// Whether AMD made the processor.
pub(crate) fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        vendor.ebx == u32::from_le_bytes(*b"Auth")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Compiles a function for every [`Level`] and calls the best one.
///
/// The body is written once, in plain Rust over slices; the compiler vectorises
/// it anew for each instruction set. The generated function takes the
/// [`Usable`] level first.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name(level: $crate::cpu::level::Usable, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            {
                use $crate::cpu::level::Level;
                match level.get() {
                    Level::Avx512 | Level::Avx512Bf16 | Level::Amx => {
                        // SAFETY: the level is usable, so the processor has these features.
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { avx2($($arg),*) },
                    Level::Portable => {}
                }
            }
            let _ = level;
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
