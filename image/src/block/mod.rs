//! What an image is built of: archives, file systems, hash trees, boot images and partition tables. Each is a
//! function from bytes to bytes that knows nothing of boards.

pub mod cpio;
pub mod disk;
pub mod ext4;
pub mod fat;
pub mod modules;
pub mod region;
pub mod squashfs;
pub mod tree;
pub mod uki;
pub mod verity;
