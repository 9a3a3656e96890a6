package broker

// registries are the hosts that chat.EgressPackages opens, in the form of a
// project's list. What is here serves packages to everyone. Some of these
// hosts also take uploads from whoever has an account, so this mode keeps an
// agent from the web at large, not from every way to send data out; that is
// chat.EgressNone.
//
// Left out on purpose: github.com, gitlab.com and their release downloads
// (they hold anything, from anyone), storage.googleapis.com and cdn hosts that
// serve any customer. Container registries are not needed inside a workspace.
var registries = []string{
	// JavaScript: npm, Yarn, JSR, Node headers for native modules
	"registry.npmjs.org", "registry.yarnpkg.com", "repo.yarnpkg.com", "npm.jsr.io", "jsr.io", "nodejs.org",
	// Python: PyPI, conda
	"pypi.org", "files.pythonhosted.org", "conda.anaconda.org", "repo.anaconda.com",
	// Rust: crates.io, toolchains
	"crates.io", "index.crates.io", "static.crates.io", "static.rust-lang.org",
	// Go: modules, toolchains, checksums
	"proxy.golang.org", "sum.golang.org", "index.golang.org",
	// Debian, Ubuntu, Alpine
	"deb.debian.org", "security.debian.org", "ftp.debian.org",
	"archive.ubuntu.com", "*.archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com",
	"dl-cdn.alpinelinux.org",
	// Ruby
	"rubygems.org", "index.rubygems.org", "api.rubygems.org",
	// JVM: Maven Central, Gradle
	"repo.maven.apache.org", "repo1.maven.org", "plugins.gradle.org", "plugins-artifacts.gradle.org",
	"services.gradle.org", "downloads.gradle.org",
	// .NET, PHP, Elixir and Erlang, Dart, Haskell, Perl, Swift and Objective-C, R
	"api.nuget.org", "globalcdn.nuget.org",
	"packagist.org", "repo.packagist.org",
	"hex.pm", "repo.hex.pm", "builds.hex.pm",
	"pub.dev",
	"hackage.haskell.org",
	"cpan.org", "www.cpan.org", "cpan.metacpan.org",
	"cdn.cocoapods.org", "trunk.cocoapods.org",
	"cran.r-project.org", "cloud.r-project.org",
}
