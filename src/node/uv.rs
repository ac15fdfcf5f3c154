//! The few functions of libuv that watch a socket on a loop, as the running program exports them. libuv 1 keeps its
//! ABI; sizes of handles are asked for. Where they are not exported (or the program only pretends to have them, as Bun
//! does) there is no loop to be had.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// A `uv_loop_t`.
#[repr(C)]
pub struct Loop {
    _opaque: [u8; 0],
}

/// A `uv_handle_t` of any kind.
#[repr(C)]
pub struct Handle {
    _opaque: [u8; 0],
}

pub type Callback = unsafe extern "C" fn(*mut Handle);
pub type PollCallback = unsafe extern "C" fn(*mut Handle, c_int, c_int);

pub const READABLE: c_int = 1;
pub const WRITABLE: c_int = 2;

/// Kinds of handles, as in `uv_handle_type`.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Check = 2,
    Poll = 8,
    Prepare = 9,
    Timer = 13,
}

macro_rules! functions {
    ($($name:ident: $symbol:literal = fn($($argument:ty),*) $(-> $answer:ty)?;)+) => {
        /// The functions; each is libuv's own.
        #[derive(Debug)]
        pub struct Uv {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)+
        }

        impl Uv {
            fn of(program: &Library) -> Option<Uv> {
                Some(Uv {
                    // SAFETY: the types are those of libuv 1.
                    $($name: unsafe { *program.get($symbol).ok()? },)+
                })
            }
        }
    };
}

functions! {
    version: b"uv_version\0" = fn() -> c_uint;
    handle_size: b"uv_handle_size\0" = fn(c_int) -> usize;
    set_data: b"uv_handle_set_data\0" = fn(*mut Handle, *mut c_void);
    get_data: b"uv_handle_get_data\0" = fn(*const Handle) -> *mut c_void;
    unref: b"uv_unref\0" = fn(*mut Handle);
    close: b"uv_close\0" = fn(*mut Handle, Option<Callback>);
    poll_init: b"uv_poll_init\0" = fn(*mut Loop, *mut Handle, c_int) -> c_int;
    poll_start: b"uv_poll_start\0" = fn(*mut Handle, c_int, Option<PollCallback>) -> c_int;
    prepare_init: b"uv_prepare_init\0" = fn(*mut Loop, *mut Handle) -> c_int;
    prepare_start: b"uv_prepare_start\0" = fn(*mut Handle, Option<Callback>) -> c_int;
    prepare_stop: b"uv_prepare_stop\0" = fn(*mut Handle) -> c_int;
    check_init: b"uv_check_init\0" = fn(*mut Loop, *mut Handle) -> c_int;
    check_start: b"uv_check_start\0" = fn(*mut Handle, Option<Callback>) -> c_int;
    check_stop: b"uv_check_stop\0" = fn(*mut Handle) -> c_int;
    timer_init: b"uv_timer_init\0" = fn(*mut Loop, *mut Handle) -> c_int;
    timer_start: b"uv_timer_start\0" = fn(*mut Handle, Option<Callback>, u64, u64) -> c_int;
    update_time: b"uv_update_time\0" = fn(*mut Loop);
    strerror: b"uv_strerror\0" = fn(c_int) -> *const c_char;
}

impl Uv {
    /// Those of the running program, if it is one with libuv 1. Only to be asked for where it is known to be real.
    pub fn get() -> Option<&'static Uv> {
        static UV: OnceLock<Option<Uv>> = OnceLock::new();
        UV.get_or_init(|| {
            #[cfg(unix)]
            let program: Library = libloading::os::unix::Library::this().into();
            #[cfg(windows)]
            let program: Library = libloading::os::windows::Library::this().ok()?.into();
            let uv = Uv::of(&program);
            // The program itself is never unloaded.
            std::mem::forget(program);
            // SAFETY: it takes nothing and answers a number.
            uv.filter(|uv| unsafe { (uv.version)() } >> 16 == 1)
        })
        .as_ref()
    }
}
