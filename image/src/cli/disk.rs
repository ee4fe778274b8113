//! `sosna-image personalise`, `flash`, `sources` and `publish`.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::flash::{self, Target};
use sosna_image::inspect::Image;
use sosna_image::{personal, publish as publishing, sources as source};

use super::args::{FlashArgs, PersonaliseArgs, PublishArgs, SourcesArgs};
use super::build;

pub(super) fn personalise(args: &PersonaliseArgs) -> Result<(), Error> {
    let boots = Image::open(&args.image)?.boot_images()?;
    let board = boots.first().map(|boot| Board::find(&boot.board)).transpose()?;
    let settings = build::personal(&args.personal, board.as_ref())?;
    if settings.is_empty() && !args.forget_join {
        return Err(Error::Refused("nothing was given to write; see --help".to_owned()));
    }
    personal::personalise(&args.image, &settings, args.forget_join)?;
    println!("{} is personalised", args.image.display());
    Ok(())
}

pub(super) fn flash(args: &FlashArgs) -> Result<(), Error> {
    let target = Target::find(&args.device)?;
    // Refuses what is no image before anybody is asked.
    Image::open(&args.image)?;
    if !args.yes {
        ask(&target)?;
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:10} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    flash::flash(&args.image, &target, &|step, done, total| {
        bar.set_message(step.to_owned());
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    println!("{} is written and verified", target.description());
    Ok(())
}

fn ask(target: &Target) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Refused(
            "nobody can be asked here: look at the device, then give --yes".to_owned(),
        ));
    }
    eprintln!("All that is on {} will be lost.", target.description());
    eprint!("Type `{}` to go on: ", target.path().display());
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Error::io("read", "the answer"))?;
    if answer.trim() == target.path().display().to_string() {
        return Ok(());
    }
    Err(Error::Refused("nothing was written".to_owned()))
}

pub(super) fn sources(args: &SourcesArgs) -> Result<(), Error> {
    let found = source::sources(&args.image)?;
    if args.json {
        println!("{}", serde_json::to_string(&found).map_err(|error| Error::malformed("the list", error))?);
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["SOURCE PACKAGE", "VERSION", "IN"]);
        for source in &found {
            table.add_row([&source.source, &source.version, &source.packages.join(", ")]);
        }
        println!("{table}");
        println!("\n`apt-get source --download-only SOURCE=VERSION` fetches one from a Debian archive.");
    }
    if let Some(folder) = &args.licences {
        let count = source::licences(&args.image, folder)?;
        eprintln!("{count} texts about authors and licences are in {}", folder.display());
    }
    Ok(())
}

pub(super) fn publish(args: &PublishArgs) -> Result<(), Error> {
    let published = publishing::publish(&args.image, &args.output, &args.url)?;
    for file in published.files {
        println!("{}", file.display());
    }
    Ok(())
}
