//! Joins the tiles of a rendering into one picture. Tiles come from strangers' machines: every size is
//! checked, and nothing is allocated by what a file claims.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use image::codecs::bmp::BmpDecoder;
use image::{DynamicImage, GenericImage, ImageDecoder, ImageError, ImageFormat, RgbImage};

/// What can be wrong with tiles.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A file could not be opened or written.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A tile is not a picture.
    #[error("tile {path} is not a readable BMP", path = path.display())]
    Tile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// A tile has a size that its place in the picture does not have.
    #[error("tile {path} is {found:?} pixels, its place {expected:?}", path = path.display())]
    Size {
        /// Which.
        path: PathBuf,
        /// Width and height that it has.
        found: (u32, u32),
        /// Width and height that it must have.
        expected: (u32, u32),
    },
    /// More tiles than rows, or none.
    #[error("a picture of {rows} rows cannot be divided into {tiles} tiles")]
    Count {
        /// Rows of the picture.
        rows: u32,
        /// Tiles asked for.
        tiles: usize,
    },
    /// The picture could not be written.
    #[error("cannot write the picture {path}", path = path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ImageError,
    },
}

/// First row of tile `index` of `count` in a picture of `height` rows: as `render-tile` divides.
fn first_row(index: usize, count: usize, height: u32) -> u32 {
    let row = u64::from(height) * index as u64 / count as u64;
    u32::try_from(row).unwrap_or(height)
}

/// Joins the tiles, from the top band to the bottom one, into a PNG of `width` by `height` pixels at `into`.
///
/// # Errors
/// [`JoinError`]: above all when a tile does not have exactly the size of its place.
pub fn join(tiles: &[PathBuf], (width, height): (u32, u32), into: &Path) -> Result<(), JoinError> {
    let count = tiles.len();
    if count == 0 || count > height as usize {
        return Err(JoinError::Count { rows: height, tiles: count });
    }
    let mut picture = RgbImage::new(width, height);
    for (index, path) in tiles.iter().enumerate() {
        let top = first_row(index, count, height);
        let expected = (width, first_row(index + 1, count, height) - top);
        let tile = read(path, expected)?;
        picture.copy_from(&tile, 0, top).map_err(|source| JoinError::Tile { path: path.clone(), source })?;
    }
    picture
        .save_with_format(into, ImageFormat::Png)
        .map_err(|source| JoinError::Write { path: into.to_path_buf(), source })
}

fn read(path: &Path, expected: (u32, u32)) -> Result<RgbImage, JoinError> {
    let file = File::open(path).map_err(|source| JoinError::Io { path: path.to_path_buf(), source })?;
    let bad = |source| JoinError::Tile { path: path.to_path_buf(), source };
    let decoder = BmpDecoder::new(BufReader::new(file)).map_err(bad)?;
    // Before the pixels are read: a header may claim anything.
    let found = decoder.dimensions();
    if found != expected {
        return Err(JoinError::Size { path: path.to_path_buf(), found, expected });
    }
    Ok(DynamicImage::from_decoder(decoder).map_err(bad)?.into_rgb8())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use image::Rgb;

    use super::*;

    fn tile(dir: &Path, name: &str, size: (u32, u32), shade: u8) -> PathBuf {
        let path = dir.join(name);
        let mut picture = RgbImage::from_pixel(size.0, size.1, Rgb([shade, 0, 0]));
        // The left end of the top row is blue, so that a tile upside down is seen.
        picture.put_pixel(0, 0, Rgb([0, 0, 255]));
        picture.save_with_format(&path, ImageFormat::Bmp).unwrap();
        path
    }

    #[test]
    fn bands_lie_where_the_script_cut_them() {
        let dir = tempfile::tempdir().unwrap();
        // 7 rows in 3 tiles: 2, 2 and 3; a width of 5 has padded rows.
        let tiles = [
            tile(dir.path(), "0", (5, 2), 10),
            tile(dir.path(), "1", (5, 2), 20),
            tile(dir.path(), "2", (5, 3), 30),
        ];
        let into = dir.path().join("picture.png");
        join(&tiles, (5, 7), &into).unwrap();
        let picture = image::open(&into).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (5, 7));
        let column: Vec<u8> = (0..7).map(|y| picture.get_pixel(4, y)[0]).collect();
        assert_eq!(column, [10, 10, 20, 20, 30, 30, 30]);
        let blue: Vec<u32> = (0..7).filter(|y| picture.get_pixel(0, *y)[2] == 255).collect();
        assert_eq!(blue, [0, 2, 4]);
    }

    #[test]
    fn wrong_tiles_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("picture.png");
        let good = tile(dir.path(), "good", (5, 3), 1);
        let short = tile(dir.path(), "short", (5, 2), 1);
        let wide = tile(dir.path(), "wide", (6, 3), 1);
        let refused = |tiles: &[PathBuf]| join(tiles, (5, 6), &into).unwrap_err();
        assert!(matches!(
            refused(&[good.clone(), short]),
            JoinError::Size { found: (5, 2), expected: (5, 3), .. }
        ));
        assert!(matches!(refused(&[good.clone(), wide]), JoinError::Size { .. }));
        assert!(matches!(refused(&[]), JoinError::Count { .. }));
        assert!(matches!(refused(&vec![good.clone(); 7]), JoinError::Count { .. }));
        assert!(matches!(refused(&[good.clone(), dir.path().join("none")]), JoinError::Io { .. }));
        let text = dir.path().join("text");
        std::fs::write(&text, "not a picture").unwrap();
        assert!(matches!(refused(&[good.clone(), text]), JoinError::Tile { .. }));
        // A header that claims a picture of gigabytes is refused by its claim.
        let mut claim = std::fs::read(&good).unwrap();
        claim[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
        let huge = dir.path().join("huge");
        std::fs::write(&huge, claim).unwrap();
        assert!(matches!(refused(&[good.clone(), huge]), JoinError::Size { found: (65535, 65535), .. }));
        // Cut off in the middle of its pixels.
        let mut cut = std::fs::read(&good).unwrap();
        cut.truncate(70);
        let path = dir.path().join("cut");
        std::fs::write(&path, cut).unwrap();
        assert!(matches!(refused(&[good, path]), JoinError::Tile { .. }));
        assert!(!into.exists());
    }
}
