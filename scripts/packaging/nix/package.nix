# For `callPackage ./package.nix { rules = ./rules.toml; }`, in the shape of nixpkgs' pkgs/by-name. With `lib.fakeHash`
# Nix stops and prints the hash to put there.
{
  lib,
  rustPlatform,
  fetchurl,
  pkgsBuildBuild,
  libbpf,
  elfutils,
  zlib,
  installShellFiles,
  versionCheckHook,
  rules ? null,
}:

rustPlatform.buildRustPackage (finalAttrs: {
  pname = "set-rto";
  version = "0.2.0";

  src = fetchurl {
    url = "https://set-rto.invalid/set-rto/releases/download/v${finalAttrs.version}/set-rto-${finalAttrs.version}.tar.gz";
    hash = lib.fakeHash;
  };
  cargoHash = lib.fakeHash;

  nativeBuildInputs = [ installShellFiles ];
  buildInputs = [
    libbpf
    elfutils
    zlib
  ];
  # The build script reads the BPF program with libbpf.
  depsBuildBuild = [
    pkgsBuildBuild.libbpf
    pkgsBuildBuild.elfutils
    pkgsBuildBuild.zlib
  ];

  cargoBuildFlags = [ "--package=set-rto" ];
  buildNoDefaultFeatures = true;
  buildFeatures = [ "system" ];

  env = {
    # The wrapped clang adds flags for the host that the target bpf does not have.
    CLANG = "${lib.getBin pkgsBuildBuild.llvmPackages.clang-unwrapped}/bin/clang";
  }
  // lib.optionalAttrs (rules != null) { SET_RTO_RULES = "${rules}"; };

  # The tests attach to a kernel.
  doCheck = false;

  postInstall = ''
    installManPage scripts/packaging/man/set-rto.8 scripts/packaging/man/set-rto-rules.5
    installShellCompletion --bash scripts/packaging/completions/set-rto.bash
    installShellCompletion --zsh scripts/packaging/completions/_set-rto
    installShellCompletion --fish scripts/packaging/completions/set-rto.fish
    install -D -m 644 scripts/packaging/systemd/set-rto.service $out/lib/systemd/system/set-rto.service
    substituteInPlace $out/lib/systemd/system/set-rto.service --replace-fail /usr/sbin $out/bin
  '';

  doInstallCheck = true;
  nativeInstallCheckInputs = [ versionCheckHook ];

  meta = {
    description = "TCP's first retransmit timer per connection, by rules compiled into the binary";
    homepage = "https://set-rto.invalid/set-rto";
    license = with lib.licenses; [
      mit
      asl20
      gpl2Only
    ];
    maintainers = [ ];
    platforms = lib.platforms.linux;
    mainProgram = "set-rto";
  };
})
