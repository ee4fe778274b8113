//! `sosna-image lock`.

use std::env;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use sosna_image::Error;
use sosna_image::board::{Description, refresh};

use super::args::{LockArgs, PackageArgs};

pub(super) fn lock(packages: &PackageArgs, args: &LockArgs) -> Result<(), Error> {
    let cache = packages.cache();
    for (n, path) in args.descriptions.iter().enumerate() {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let description = Description::parse(&path.display().to_string(), &text)?;
        let lock = refresh(&description, &cache, today(), n == 0)?;
        let to = path.with_extension("lock");
        fs::write(&to, lock.to_text()?).map_err(Error::io("write", &to))?;
        for pin in &lock.packages {
            println!("{}: {} {}", to.display(), pin.name, pin.version);
        }
    }
    Ok(())
}

/// `SOURCE_DATE_EPOCH`, else the day's beginning: who asks twice on one day gets the same.
pub(super) fn today() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(now / 86_400 * 86_400)
}
