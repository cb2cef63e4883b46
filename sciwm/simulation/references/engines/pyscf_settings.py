"""What PySCF reads when it is imported, in place of any file of that kind where the command runs."""

scf_hf_SCF_mute_chkfile = True
