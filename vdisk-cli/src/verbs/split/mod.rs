//! `vdisk split`: full disks that were made from one base, as children of it.

mod report;

use crate::{
    args::{InputArgs, ids, shown},
    child,
    exit::Exit,
    output::WriteArgs,
    profile::now,
    ui::Ui,
};
use report::{Action, Image, SplitReport};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Chain, Disk, Error, ErrorKind, Result, format,
    ops::{
        self, hash,
        rebase::{self, Wish},
        split::Found,
    },
};

/// Make a full disk a child of another one: only what differs is kept
///
/// The child is compared with the image by SHA-256 before it appears. The base must not change from
/// then on. A VMDK can have VMDK children, a VHDX VHDX children, a VHD or a raw disk VHD children.
///
/// With --all, does so with every full disk directly in a folder: disk.vmdk gets
/// disk.thin.vmdk beside it, and disk.raw gets disk.raw.thin.vmdk. Images that would not get smaller
/// are left, and so are copies that have the identity of the base, and those whose child's name is
/// taken: nothing is replaced. With --replace the child takes the place, the name and the identity of
/// the image, in one step; this is done only for images of the base's own format that are one file of
/// one name. One bad image does not stop the others: the exit code is 1 then.
///
/// JSON: schema, base, dry_run, images (image, action (written, replaced, would-write,
/// would-replace, left, failed), reason, output, sha256, stored_before, stored_size (with --dry-run
/// about), smaller_by, recorded_bytes), smaller_by (of all), freed_size (what --replace frees).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image to split; it stays as it is
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    image: Option<PathBuf>,
    /// The image that becomes the parent
    #[arg(long, value_name = "BASE")]
    base: PathBuf,
    /// The new child
    #[arg(short, long, value_name = "CHILD", required_unless_present_any = ["all", "dry_run"])]
    output: Option<PathBuf>,
    /// Split every full disk directly in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "force"])]
    all: Option<PathBuf>,
    /// Put the children in the place of the images, which are gone then
    #[arg(
        long,
        requires = "all",
        conflicts_with_all = ["format", "subformat", "block_size", "adapter", "profile", "reproducible"]
    )]
    replace: bool,
    /// Show what would be won, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Record the absolute path of the base: besides the relative one in VHD and VHDX, instead of it in VMDK
    #[arg(long)]
    absolute_parent: bool,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Exit> {
    if args.replace && args.all.is_none() {
        // The parser lets this through: the image excludes what it would ask for.
        let detail = "goes with --all DIR only; one image is left, and its child goes to -o";
        return Err(Error::new(ErrorKind::Usage, "--replace", detail));
    }
    let base = args.input.open(&args.base, ui)?;
    let mut report = SplitReport {
        schema: 1,
        base: shown(&args.base),
        dry_run: args.dry_run,
        images: Vec::new(),
        smaller_by: 0,
        freed_size: 0,
        replace: args.replace,
    };
    match (&args.image, &args.all) {
        (Some(image), _) => {
            let output = args.output.clone();
            let output = output.unwrap_or_else(|| beside(image, &base));
            report
                .images
                .push(one(args, &base, image, &output, false, ui)?);
        }
        (None, Some(folder)) => all(args, &base, folder, &mut report, ui)?,
        (None, None) => {} // refused by the parser
    }
    report.add_up();
    match args.dry_run {
        true => ui.print(&report)?,
        false => ui.summary(&report)?,
    }
    let bad = report.images.iter().any(|i| i.action == Action::Failed);
    Ok(if bad { Exit::Differs } else { Exit::Done })
}

/// Splits the images of `folder`, one after the other.
fn all(
    args: &Args,
    base: &Chain,
    folder: &Path,
    report: &mut SplitReport,
    ui: &mut Ui,
) -> Result<()> {
    // Otherwise each image would fail for the same reason.
    ops::child::check(base, format::named(child_format(base))?)?;
    let resolver = args.input.resolver();
    let mut children = HashSet::new();
    let found = ops::split::images(folder, base, &args.input.options(&resolver))?;
    for found in found {
        ui.check_stop()?;
        let path = found.path().to_owned();
        let done = match found {
            Found::Disk(_) if args.replace => replace(args, base, &path, ui),
            Found::Disk(_) => {
                let output = beside(&path, base);
                match taken(&output, &children) {
                    Some(reason) => Ok(Image::left(&path, reason)),
                    None => one(args, base, &path, &output, true, ui),
                }
            }
            Found::Left(_, reason) => Ok(Image::left(&path, reason.to_owned())),
            Found::Bad(_, error) => Err(error),
        };
        report.images.push(match done {
            Ok(image) => {
                children.extend(image.output.clone());
                image
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => Image {
                action: Action::Failed,
                ..Image::left(&path, error.to_string())
            },
        });
    }
    Ok(())
}

/// Why no child gets the name `output`: originals and earlier children keep theirs.
fn taken(output: &Path, children: &HashSet<String>) -> Option<String> {
    let name = output.file_name().unwrap_or_default().display();
    if children.contains(&shown(output)) {
        return Some(format!("{name} is the child of another image"));
    }
    let exists = output.symlink_metadata().is_ok();
    exists.then(|| format!("{name} exists already"))
}

/// The format that children of `base` have.
fn child_format(base: &Chain) -> &'static str {
    match base.top().format().name() {
        "raw" => "vhd", // the one whose children can have a raw parent
        name => name,
    }
}

/// The name of the child of `base` beside `image`: `disk.thin.vmdk`, and `disk.raw.thin.vhd` where
/// the ending becomes another one, so that `disk.raw` and `disk.vhd` have children of their own.
fn beside(image: &Path, base: &Chain) -> PathBuf {
    let ending = child_format(base);
    let name = match image.extension() {
        Some(own) if own == ending => image.file_stem(),
        _ => image.file_name(),
    };
    let mut name = name.unwrap_or_default().to_owned();
    name.push(".thin.");
    name.push(ending);
    image.with_file_name(name)
}

/// Writes the child `output` that reads as `image`. `thrifty` leaves it if it is not smaller.
fn one(
    args: &Args,
    base: &Chain,
    image: &Path,
    output: &Path,
    thrifty: bool,
    ui: &mut Ui,
) -> Result<Image> {
    let shape = args.write.shape(output, true)?;
    child::check(base, shape)?;
    let disk = args.input.open(image, ui)?;
    let id = disk.top().file_id();
    if id.is_some() && id == base.top().file_id() {
        let error = Error::new(ErrorKind::Usage, "image", "is the base itself");
        return Err(error.path(image));
    }
    if disk.size() != base.size() {
        ui.warn(&format!(
            "{}: has another size than the base; other programs may refuse the child",
            image.display()
        ));
    }
    let place = child::place(base, output, args.absolute_parent, ui)?;
    let stored = disk.top().stored_size();
    let digest = hash::digest(&disk, &ui.job())?;
    let mut report = Image {
        action: Action::Written,
        output: Some(shown(output)),
        sha256: Some(hash::hex(&digest)),
        stored_before: Some(stored),
        replaceable: ops::split::reason_to_keep(disk.top(), shape.format)?.is_none(),
        reason: None,
        ..Image::left(image, String::new())
    };
    let fill = |mut destination: crate::output::Destination, ui: &Ui| {
        let digest = || Ok(digest);
        let recorded = child::fill(
            &args.write,
            base,
            Some(&disk),
            place,
            digest,
            &mut destination,
            ui,
        )?;
        Ok::<_, Error>((destination, recorded))
    };
    let inputs = ids(disk.files().chain(base.files()));
    if args.dry_run {
        if thrifty || args.output.is_some() {
            args.write.check(output, inputs)?;
        }
        let (destination, counting) = args.write.rehearse(output, shape)?;
        report.recorded_bytes = Some(fill(destination, ui)?.1);
        report.action = Action::WouldWrite;
        return Ok(report.against(counting.stored(), thrifty));
    }
    let destination = args.write.begin(output, shape, inputs, ui)?;
    let (mut destination, recorded) = fill(destination, ui)?;
    report.recorded_bytes = Some(recorded);
    if let Some(layer) = destination.layer()? {
        report = report.against(layer.stored_size(), thrifty);
        if report.action == Action::Left {
            return Ok(report);
        }
        ops::child::verify(layer, base, disk.size(), &digest, &ui.job())?;
    }
    destination.publish(disk.size(), ui)?;
    Ok(report)
}

/// Puts a child in the place of `image`.
fn replace(args: &Args, base: &Chain, image: &Path, ui: &Ui) -> Result<Image> {
    let disk = args.input.open_metadata(image, ui)?;
    let wanted = format::named(child_format(base))?;
    if let Some(reason) = ops::split::reason_to_keep(disk.top(), wanted)? {
        return Ok(Image::left(image, reason));
    }
    let wish = Wish {
        absolute: args.absolute_parent,
        only_if_smaller: true,
        created: now(),
        ..Wish::default()
    };
    let plan = rebase::plan(&disk, base, &wish)?;
    drop(disk);
    for warning in &plan.warnings {
        ui.warn(&format!("{}: {warning}", image.display()));
    }
    let resolver = args.input.resolver();
    let options = args.input.options(&resolver);
    let mut report = Image {
        action: Action::WouldReplace,
        reason: None,
        output: Some(shown(image)),
        stored_before: Some(plan.stored_before),
        replaceable: true,
        ..Image::left(image, String::new())
    };
    if args.dry_run {
        let estimate = plan.measure(&options, &ui.job())?;
        report.recorded_bytes = Some(estimate.recorded);
        return Ok(report.against(estimate.stored, true));
    }
    let done = plan.apply(&options, args.write.sync(), &ui.job())?;
    report.action = Action::Replaced;
    report.sha256 = Some(hash::hex(&done.sha256));
    report.recorded_bytes = Some(done.recorded);
    Ok(report.against(done.stored, true))
}
