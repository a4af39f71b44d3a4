# For NixOS: `services.set-rto.enable`, and the rules.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.set-rto;
in
{
  options.services.set-rto = {
    enable = lib.mkEnableOption "TCP timers by rules (set-rto)";
    rules = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = lib.literalExpression "./rules.toml";
      description = "The rules file to compile in. null: the one of the sources.";
    };
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { inherit (cfg) rules; };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { inherit (config.services.set-rto) rules; }";
      description = "The package to use.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    systemd.packages = [ cfg.package ];
    systemd.services.set-rto = {
      # NixOS takes no [Install] section from packages.
      wantedBy = [ "sysinit.target" ];
      # Changed rules replace the attached ones in place.
      reloadIfChanged = true;
    };
  };
}
