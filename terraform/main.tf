# The same foundation as `verger cloud setup` makes, from the same template, for those who use Terraform.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.region
}

resource "aws_cloudformation_stack" "foundation" {
  name          = "${var.project}-foundation"
  template_body = file("${path.module}/../verger/cloud/foundation.yaml")
  capabilities  = ["CAPABILITY_IAM"]

  parameters = {
    Project    = var.project
    Mail       = var.mail
    CeilingEur = var.ceiling_eur
    VpcId      = var.vpc_id
    SubnetId   = var.subnet_id
  }

  tags = {
    "verger:project" = var.project
  }
}
